// A js-libp2p node in a plain room. It speaks the JSON lines of `warren run --plain --json`, as far as the
// interop checks need them, and takes the same options as the reference peer in Rust.

import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { privateKeyFromRaw, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { dcutr } from '@libp2p/dcutr'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const { values: options } = parseArgs({
  options: {
    listen: { type: 'string', multiple: true, default: ['/ip4/127.0.0.1/tcp/0'] },
    bootstrap: { type: 'string', multiple: true, default: [] },
    room: { type: 'string', multiple: true, default: ['lobby'] },
    relay: { type: 'string', multiple: true, default: [] },
    'relay-server': { type: 'boolean', default: false },
    mdns: { type: 'boolean', default: false },
    'no-dial': { type: 'boolean', default: false },
    'key-type': { type: 'string', default: 'secp256k1' },
    'secret-key-seed': { type: 'string' }
  }
})

const emit = (event) => process.stdout.write(JSON.stringify(event) + '\n')
const sha256 = (bytes) => createHash('sha256').update(bytes).digest()
const hex = (bytes) => Buffer.from(bytes).toString('hex')

// The seed is spread over 32 bytes by a tag of this program's own: no other program derives the same key.
async function privateKey (type, seed) {
  const bytes = sha256(`js-peer ${seed ?? process.hrtime.bigint()}`)
  switch (type) {
    case 'secp256k1': return privateKeyFromRaw(bytes)
    case 'ed25519': return generateKeyPairFromSeed('Ed25519', bytes)
    default: throw new Error(`\`${type}\` is no key type: use secp256k1 or ed25519`)
  }
}

// QUIC comes as a native addon, which not every machine has: loaded only where it is asked for. A peer that listens
// on nothing else has nothing else: js-libp2p dials one address after the other, TCP first, and one that leads
// nowhere takes all the time that DCUtR has.
async function transports () {
  const { listen, bootstrap, relay } = options
  const carriers = []
  if (listen.some((addr) => addr.includes('/tcp/'))) carriers.push(tcp())
  if ([...listen, ...bootstrap, ...relay].some((addr) => addr.includes('/quic-v1'))) {
    const { quic } = await import('@chainsafe/libp2p-quic')
    carriers.push(quic())
  }
  return relay.length > 0 ? [...carriers, circuitRelayTransport()] : carriers
}

// What a peer behind a NAT needs to be punched to. js-libp2p tells others only addresses that AutoNAT has seen to be
// dialled, which behind a NAT that filters never happens; so this service believes whoever says that he sees us at a
// QUIC address, as AutoNAT's does after the check. TCP is no use: its dials come from ports of their own, at which
// nobody listens (the comments in @libp2p/identify, src/identify.ts, and js-libp2p's issue 2620).
function believe ({ addressManager, events }) {
  events.addEventListener('peer:identify', ({ detail: { observedAddr } }) => {
    if (!observedAddr?.toString().includes('/quic-v1')) return
    addressManager.confirmObservedAddr(observedAddr)
    emit({ event: 'observed', addr: observedAddr.toString() })
  })
  return {}
}

const punching = options.relay.length > 0 ? { believe, dcutr: dcutr() } : {}
const relaying = options['relay-server'] ? { relay: circuitRelayServer() } : {}

// libp2p's own event leaves out those who came by themselves; so mDNS is asked, and says each once.
const found = new Set()
function local (components) {
  const discovery = mdns()(components)
  discovery.addEventListener('peer', ({ detail: { id, multiaddrs } }) => {
    if (found.has(id.toString())) return
    found.add(id.toString())
    multiaddrs.forEach((addr) => emit({ event: 'found', peerId: id.toString(), addr: addr.toString() }))
    // It may be connected by then.
    if (!options['no-dial']) node.dial(multiaddrs.map((addr) => addr.encapsulate(`/p2p/${id}`))).catch(() => {})
  })
  return discovery
}

const node = await createLibp2p({
  privateKey: await privateKey(options['key-type'], options['secret-key-seed']),
  addresses: {
    listen: [...options.listen, ...options.relay.map((addr) => `${addr}/p2p-circuit`)],
    // A relay tells others where they reach those who reserve, for which it has to be sure of its own addresses.
    announce: options['relay-server'] ? options.listen : []
  },
  transports: await transports(),
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  peerDiscovery: options.mdns ? [local] : [],
  services: {
    ...punching,
    ...relaying,
    identify: identify(),
    ping: ping(),
    pubsub: gossipsub({
      globalSignaturePolicy: 'StrictSign',
      emitSelf: false,
      // Those through a relay, which cuts them at some time.
      runOnLimitedConnection: options.relay.length > 0,
      msgIdFn: (message) => sha256(message.data)
    })
  },
  start: false
})
const { pubsub } = node.services
const rooms = new Set(options.room)

// Each peer's connections: whether it is relayed, and its address.
const connections = new Map()
const best = (peerId) => {
  const ways = [...connections.get(peerId)?.values() ?? []]
  return ways.find(({ path }) => path === 'direct') ?? ways[0]
}

// Started and subscribed before anything is dialled, so that no event can be missed.
node.addEventListener('connection:open', ({ detail: { id, remotePeer, remoteAddr, direction } }) => {
  const [peerId, addr] = [remotePeer.toString(), remoteAddr.toString()]
  const path = addr.includes('/p2p-circuit') ? 'relayed' : 'direct'
  const before = best(peerId)
  if (!connections.has(peerId)) connections.set(peerId, new Map())
  connections.get(peerId).set(id, { path, addr })
  if (before === undefined) emit({ event: 'peer_connected', peerId, addr, direction, path })
  else if (before.path === 'relayed' && path === 'direct') emit({ event: 'peer_path', peerId, addr, path })
})
node.addEventListener('connection:close', ({ detail: { id, remotePeer } }) => {
  const peerId = remotePeer.toString()
  const before = best(peerId)
  connections.get(peerId)?.delete(id)
  const after = best(peerId)
  if (after === undefined) connections.delete(peerId)
  else if (before.path !== after.path) emit({ event: 'peer_path', peerId, ...after })
})
node.addEventListener('peer:disconnect', ({ detail }) => {
  emit({ event: 'peer_disconnected', peerId: detail.toString(), cause: 'closed' })
})
pubsub.addEventListener('subscription-change', ({ detail: { peerId, subscriptions } }) => {
  for (const { topic, subscribe } of subscriptions.filter(({ topic }) => rooms.has(topic))) {
    emit({ event: subscribe ? 'member_joined' : 'member_left', room: topic, peerId: peerId.toString() })
  }
})
pubsub.addEventListener('message', ({ detail }) => {
  if (detail.type !== 'signed' || !rooms.has(detail.topic)) return
  emit({
    event: 'message',
    room: detail.topic,
    peerId: detail.from.toString(),
    text: Buffer.from(detail.data).toString('utf8'),
    messageId: hex(sha256(detail.data))
  })
})

await node.start()
rooms.forEach((room) => pubsub.subscribe(room))
emit({ event: 'started', peerId: node.peerId.toString(), rooms: [...rooms], version: '0.1.0' })
node.getMultiaddrs().forEach((addr) => emit({ event: 'listening', addr: addr.toString() }))

async function stop () {
  await node.stop()
  emit({ event: 'stopped' })
  process.exit(0)
}

async function connect (addr) {
  await node.dial(multiaddr(addr))
  return {}
}

async function send (text, room = options.room[0]) {
  const data = Buffer.from(text, 'utf8')
  await pubsub.publish(room, data)
  return { messageId: hex(sha256(data)) }
}

function parse (line) {
  if (line.startsWith('send ')) return { cmd: 'send', text: line.slice(5) }
  if (line.startsWith('connect ')) return { cmd: 'connect', addr: line.slice(8).trim() }
  return JSON.parse(line)
}

async function answer (line) {
  let request = {}
  try {
    request = parse(line)
    const { cmd, id, text, room, addr } = request
    switch (cmd) {
      case 'send': return emit({ event: 'ok', cmd, id, ...await send(text, room) })
      case 'connect': return emit({ event: 'ok', cmd, id, ...await connect(addr) })
      case 'quit': emit({ event: 'ok', cmd, id }); return await stop()
      default: throw new Error(`unknown command \`${cmd}\``)
    }
  } catch (error) {
    emit({ event: 'error', cmd: request.cmd, id: request.id, error: 'failed', message: error.message })
  }
}

const lines = createInterface({ input: process.stdin })
let last = Promise.resolve()
lines.on('line', (line) => { last = last.then(() => answer(line)) })
lines.on('close', () => { last.then(stop) })
process.on('SIGTERM', stop)
process.on('SIGINT', stop)

for (const addr of options.bootstrap) {
  await connect(addr).catch((error) => emit({ event: 'error', cmd: 'connect', error: 'dial_failed', message: error.message }))
}
