/** One end of the memory benchmark's transfer: an exchange whose only members are both ends. */
import { Exchange } from '../../src/exchange/exchange.ts'
import { createIdentity, type Identity } from '../../src/identity/keys.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { BlobStore } from '../../src/store/blob-store.ts'

export const SENDER = createIdentity(new Uint8Array(32).fill(1))
export const RECEIVER = createIdentity(new Uint8Array(32).fill(2))

export async function startPeer(
  identity: Identity,
  dir: string,
): Promise<{ exchange: Exchange; blobs: BlobStore }> {
  const blobs = await BlobStore.open(dir)
  const members = [SENDER.peerId, RECEIVER.peerId]
  const exchange = new Exchange(
    {
      blobs,
      handlers: {
        isMember: (peer) => members.includes(peer),
        guestsOpen: () => false,
        charterFor: () => undefined,
        onMembershipRequest: async () => 'refused',
        wanted: () => ({ rosterVersion: 1, known: [] }),
        statementsSince: async function* () {},
        onStatement: async () => undefined,
        judgeHead: () => 'ignore',
        isBehind: () => false,
        onSynced: () => undefined,
        mayRead: () => true,
      },
    },
    {
      identity,
      consortium: digestOf(Uint8Array.of(1)),
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap: [],
      mdns: false,
      clock: () => performance.now(),
    },
  )
  await exchange.start()
  return { exchange, blobs }
}
