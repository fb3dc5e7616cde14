/** Starts an exchange on loopback that serves every peer: one end of a measured transfer. */
import { Exchange } from '../../../src/exchange/exchange.ts'
import { createIdentity } from '../../../src/identity/keys.ts'
import { digestOf } from '../../../src/lib/bytes.ts'
import { BlobStore } from '../../../src/store/blob-store.ts'

export const LOOPBACK = '/ip4/127.0.0.1/tcp/0'

export async function startExchange(dir: string): Promise<{ exchange: Exchange; blobs: BlobStore }> {
  const blobs = await BlobStore.open(dir)
  const exchange = new Exchange(
    {
      blobs,
      handlers: {
        isMember: () => true,
        guestsOpen: () => false,
        isRevoked: () => false,
        rostersSince: () => [],
        charterFor: () => undefined,
        onMembershipRequest: async () => 'refused',
        wanted: () => ({ rosterVersion: 1, known: [] }),
        statementsSince: async function* () {},
        isAhead: () => false,
        onStatement: async () => false,
        onFork: async () => false,
        judgeHead: () => 'ignore',
        isBehind: () => false,
        onPulled: () => undefined,
        onSynced: () => undefined,
        mayRead: () => true,
      },
    },
    {
      identity: createIdentity(),
      consortium: digestOf(Uint8Array.of(1)),
      listen: [LOOPBACK],
      bootstrap: [],
      mdns: false,
      clock: () => performance.now(),
    },
  )
  await exchange.start()
  return { exchange, blobs }
}
