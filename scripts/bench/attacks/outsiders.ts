/** The attacks of `npm run bench -- attacks` by outsiders: sockets, and peers whose keys no roster lists. */
import { randomBytes } from 'node:crypto'
import { decodeInvite } from '../../../src/consortium/invite.ts'
import { closed, HostilePeer } from '../../../test/support/hostile/peer.ts'
import { floodWithSockets } from '../../../test/support/hostile/sockets.ts'
import { type Attack, repeating } from './attack.ts'

/** The begin of a connection up to the messages of noise. */
const NOISE_NEGOTIATION = Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n')
const STRANGERS = 1000
/** Number of strangers that connect at the same time. */
const STRANGERS_AT_ONCE = 4
const SOCKETS_PER_SECOND = 1000

/** Local addresses, all on loopback; 1000 at most. */
const sources = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `127.1.${Math.floor(i / 250)}.${1 + (i % 250)}`)

/** Many sockets within seconds, each of which sends the same bytes and then nothing. */
function floodOfSockets(
  name: string,
  { sockets, addresses, send }: { sockets: number; addresses: number; send?: Uint8Array },
): Attack {
  return {
    name,
    start: async (target) => {
      const flood = floodWithSockets(target.addresses()[0] as string, SOCKETS_PER_SECOND, {
        sources: sources(addresses),
        most: sockets,
        ...(send === undefined ? {} : { send }),
      })
      return {
        stop: async () => {
          if (flood.opened() < sockets) await flood.reached(sockets)
          flood.stop()
          return { sockets: flood.opened() }
        },
      }
    },
  }
}

export const OUTSIDERS: readonly Attack[] = [
  {
    name: '20 sockets a second that begin a handshake',
    start: async (target) => {
      const flood = floodWithSockets(target.addresses()[0] as string, 20, {
        send: NOISE_NEGOTIATION,
      })
      return {
        stop: async () => {
          flood.stop()
          return { sockets: flood.opened() }
        },
      }
    },
  },
  floodOfSockets('10,000 sockets from 1000 addresses that send nothing', {
    sockets: 10_000,
    addresses: 1000,
  }),
  floodOfSockets('50,000 sockets from 50 addresses that send a malformed noise handshake', {
    sockets: 50_000,
    addresses: 50,
    send: Buffer.concat([NOISE_NEGOTIATION, Buffer.from([0, 64]), randomBytes(64)]),
  }),
  {
    name: '1000 strangers that complete noise',
    start: async (target) => {
      const [address] = target.addresses() as [string]
      const strangers = await Promise.all(
        Array.from({ length: STRANGERS_AT_ONCE }, (_, i) => HostilePeer.start(215 + i)),
      )
      const closedMs: number[] = []
      let dials = 0
      const all = strangers.map(async (stranger) => {
        while (dials++ < STRANGERS) {
          const began = performance.now()
          // The node refuses it after noise: `dial` throws, or the connection is closed at once.
          await stranger.dial(address).then(closed, () => undefined)
          closedMs.push(performance.now() - began)
        }
      })
      return {
        stop: async () => {
          await Promise.all(all)
          closedMs.sort((a, b) => a - b)
          const p99 = closedMs[Math.ceil(0.99 * closedMs.length) - 1] ?? 0
          return { refused: closedMs.length, 'p99 until closed, ms': Math.round(p99) }
        },
      }
    },
  },
  {
    name: '12 strangers without a token while an invitation is open',
    start: async (target) => {
      const { addresses } = decodeInvite(await target.invite())
      const strangers = await Promise.all(Array.from({ length: 12 }, (_, i) => HostilePeer.start(220 + i)))
      const loops = strangers.map((peer) => repeating(() => peer.dial(addresses[0] as string), 200))
      return {
        stop: async () => {
          const counts = await Promise.all(loops.map((loop) => loop.stop()))
          return { dials: counts.reduce((sum, count) => sum + count, 0) }
        },
      }
    },
  },
]
