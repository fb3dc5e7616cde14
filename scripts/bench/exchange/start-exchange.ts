/** Starts an exchange on loopback that serves every peer, with its egress ledger: one end of a measured transfer. */
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { Exchange } from '../../../src/exchange/exchange.ts'
import { createIdentity } from '../../../src/identity/keys.ts'
import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { digestOf } from '../../../src/lib/bytes.ts'
import { NodeEgress } from '../../../src/node/egress.ts'
import { BlobStore } from '../../../src/store/blob-store.ts'
import { Catalogue } from '../../../src/store/catalogue.ts'
import { SILENT } from '../../../src/telemetry/log.ts'

export const LOOPBACK = '/ip4/127.0.0.1/tcp/0'

export async function startExchange(dir: string): Promise<{ exchange: Exchange; blobs: BlobStore }> {
  const blobs = await BlobStore.open(dir)
  const identity = createIdentity()
  // Several ends may share the folder of the files.
  const home = await mkdtemp(join(dir, 'home-'))
  const egress = new NodeEgress({
    dir: join(home, 'egress'),
    identity,
    catalogue: await Catalogue.open(home),
    now: () => Math.floor(Date.now() / 1000),
    log: SILENT,
  })
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
        wanted: () => ({ rosterVersion: 1, governance: NO_STATEMENT, known: [] }),
        statementsSince: async function* () {},
        isAhead: () => false,
        onStatement: async () => false,
        onFork: async () => false,
        judgeHead: () => 'ignore',
        isBehind: () => false,
        onPulled: () => undefined,
        onSynced: () => undefined,
        mayRead: () => true,
        onAddCheckpoint: async () => ({ status: 404, body: '' }),
        checkpointsSince: () => [],
        knownCheckpoints: () => [],
        onCheckpoint: async () => undefined,
      },
    },
    {
      identity,
      consortium: digestOf(Uint8Array.of(1)),
      listen: [LOOPBACK],
      bootstrap: [],
      mdns: false,
      clock: () => performance.now(),
      egress: await egress.start(),
    },
  )
  await exchange.start()
  return { exchange, blobs }
}
