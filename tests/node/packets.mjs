// mqtt-packet under remote control: one JSON request a line on stdin, one JSON answer a line on stdout.
// tests/support/mqtt_packet.py speaks to it. Bytes are {"hex": "..."} both ways.
//   {"version": 5, "generate": {packet}}   is answered by {"wire": {bytes}} or {"error": "..."}
//   {"version": 5, "parse": {bytes}}       is answered by {"packets": [{packet}, ...]} or {"error": "..."}
import { createInterface } from 'node:readline'
import mqtt from 'mqtt-packet'

// A reviver sets own keys only: a user property may be called __proto__.
const revived = (key, value) => (typeof value?.hex === 'string' ? Buffer.from(value.hex, 'hex') : value)
// Buffers have become {type: "Buffer", data: [...]} before a replacer sees them.
const replaced = (key, value) => (value?.type === 'Buffer' ? { hex: Buffer.from(value.data).toString('hex') } : value)

function answer({ version, generate, parse }) {
  const options = { protocolVersion: version }
  if (generate) return { wire: mqtt.generate(generate, options) }
  const packets = []
  let error
  const parser = mqtt.parser(options)
  parser.on('packet', (packet) => packets.push(packet))
  parser.on('error', (caught) => { error ??= String(caught) })
  parser.parse(parse)
  return error === undefined ? { packets } : { error }
}

for await (const line of createInterface({ input: process.stdin })) {
  let said
  try {
    said = answer(JSON.parse(line, revived))
  } catch (caught) {
    said = { error: String(caught) }
  }
  process.stdout.write(JSON.stringify(said, replaced) + '\n')
}
