// MQTT.js under remote control: one JSON command a line on stdin, one JSON event a line on stdout.
// tests/support/mqttjs_client.py speaks to it. Packets are told as they come, not as the library interprets them.
import { createInterface } from 'node:readline'
import mqtt from 'mqtt'

const clients = new Map()

function say(client, kind, fields = {}) {
  process.stdout.write(JSON.stringify({ client, kind, ...fields }) + '\n')
}

// Properties by the specification's names, user properties as pairs, so that the other side compares plain values.
function told(properties = {}) {
  const out = {}
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'userProperties') {
      out.UserProperty = Object.entries(value).flatMap(([key, texts]) => [texts].flat().map((text) => [key, text]))
    } else {
      const plain = Buffer.isBuffer(value) ? value.toString('hex') : value
      out[name[0].toUpperCase() + name.slice(1)] = typeof plain === 'boolean' ? Number(plain) : plain
    }
  }
  return out
}

// The reverse of the other side's encoding of bytes; an object without keys is left out.
function made(properties = {}) {
  const out = {}
  for (const [name, value] of Object.entries(properties)) {
    out[name] = value?.base64 === undefined ? value : Buffer.from(value.base64, 'base64')
  }
  return Object.keys(out).length ? out : undefined
}

function defined(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null && value !== undefined))
}

const operations = {
  connect(number, { options }) {
    const will = options.will && { ...options.will, properties: made(options.will.properties) }
    const properties = made(options.properties)
    const client = mqtt.connect(
      defined({
        ...options,
        will,
        properties,
        host: '127.0.0.1',
        protocol: 'mqtt',
        reconnectPeriod: 0,
        resubscribe: false,
        queueQoSZero: false,
      }),
    )
    let dismissed = null
    client.on('packetreceive', (packet) => {
      if (packet.cmd === 'connack') {
        const reason = options.protocolVersion === 5 ? packet.reasonCode : packet.returnCode
        const properties = told(packet.properties)
        say(number, 'connack', { reason, sessionPresent: packet.sessionPresent, properties })
      } else if (packet.cmd === 'suback' || packet.cmd === 'unsuback') {
        say(number, packet.cmd, { codes: packet.granted ?? [] })
      } else if (packet.cmd === 'pingresp') {
        say(number, 'pingresp')
      } else if (packet.cmd === 'disconnect') {
        dismissed = packet.reasonCode ?? 0
      }
    })
    client.on('message', (topic, payload, { qos, retain, properties }) => {
      say(number, 'message', {
        topic,
        qos,
        retain,
        payload: payload.toString('base64'),
        properties: told(properties),
      })
    })
    client.on('close', () => {
      say(number, 'closed', { reason: dismissed })
      dismissed = null
    })
    client.on('error', () => {}) // a refusal is told by its CONNACK, a loss by 'close'
    clients.set(number, client)
  },
  subscribe(number, { topic, options }) {
    clients.get(number).subscribe(topic, { ...options, properties: made(options.properties) }, () => {})
  },
  unsubscribe(number, { topic }) {
    clients.get(number).unsubscribe(topic, () => {})
  },
  publish(number, { topic, payload, options }) {
    const bytes = Buffer.from(payload, 'base64')
    clients.get(number).publish(topic, bytes, { ...options, properties: made(options.properties) }, (error) => {
      say(number, 'sent', { reason: error ? (error.code ?? String(error)) : 0 })
    })
  },
  end(number, { reason }) {
    clients.get(number).end(false, reason ? { reasonCode: reason } : {}, () => say(number, 'ended'))
  },
  cut(number) {
    clients.get(number).stream.destroy()
  },
  forget(number) {
    const client = clients.get(number)
    clients.delete(number)
    client.end(true, {}, () => say(number, 'ended'))
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { op, client, ...rest } = JSON.parse(line)
  operations[op](client, rest)
}
process.exit(0)
