import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { askChunks } from '../../src/exchange/blob.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import type { Libp2pNetwork } from '../../src/network/libp2p-network.ts'
import { NodeEgress } from '../../src/node/egress.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { checkChain } from '../../src/store/egress-chain.ts'
import type { EgressRow } from '../../src/store/egress-row.ts'
import { egressInit, networkOf } from '../support/egress-nodes.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { UNRECORDED } from '../support/transport.ts'

const CHUNKS = 12
const script = fileURLToPath(new URL('egress.child.ts', import.meta.url))
const children: ChildProcess[] = []
const networks: Libp2pNetwork[] = []
const never = new AbortController().signal

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await Promise.all(networks.splice(0).map((network) => network.stop()))
  await cleanUp()
})

interface Transfer {
  readonly chunks: ReadonlySet<number>
  /** Bytes of all chunks, some of which arrived several times. */
  readonly bytes: number
}

/** Ask for chunks, several times at once, and kill the node that sends them when this many have arrived. */
async function transferUntilKilled(dir: string, frames: number): Promise<Transfer> {
  const bytes = CHUNKS * limit('chunkBytes')
  const child = fork(script, [dir, String(bytes)], { execArgv: ['--import', 'tsx'] })
  children.push(child)
  const [{ address, digest }] = (await once(child, 'message')) as [{ address: string; digest: Digest }]
  const network = networkOf(2, UNRECORDED)
  networks.push(network)
  await network.start()
  const peer = await network.connect(address, never)
  const chunks = new Set<number>()
  let [arrived, received] = [0, 0]
  const killed = new AbortController()
  const ask = async (first: number, count: number): Promise<void> => {
    const run = { digest, first, count, chunkSize: limit('chunkBytes') }
    let chunk = first
    for await (const parts of askChunks(network, peer, run, killed.signal)) {
      chunks.add(chunk++)
      received += parts.reduce((sum, { length }) => sum + length, 0)
      if (++arrived === frames) child.kill('SIGKILL')
    }
  }
  child.once('exit', () => killed.abort())
  const exited = once(child, 'exit')
  await Promise.all(
    [0, 4, 8].map(async (base) => {
      for (let i = 0; child.exitCode === null && child.signalCode === null && !killed.signal.aborted; i++) {
        await ask(base + (i % 3), 1 + (i % 2)).catch(() => killed.abort())
      }
    }),
  )
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  await exited
  return { chunks, bytes: received }
}

describe('the ledger of a node that is killed while it sends', () => {
  it.each([1, 9, 30])(
    'has every chunk that has arrived, and says that it was killed (after %d chunks)',
    async (frames) => {
      const dir = await folder()
      const { chunks: arrived, bytes } = await transferUntilKilled(dir, frames)
      const catalogue = await Catalogue.open(dir)
      const egress = new NodeEgress(egressInit(dir, catalogue))
      await egress.start()
      await egress.close()
      const rows: EgressRow[] = []
      const { dir: ledger } = egress.init
      const { fault } = await checkChain({
        dir: ledger,
        signer: egress.signer,
        anchors: [{ ...((await egress.anchor.get()) ?? { seq: 0, hash: '' }), source: 'the catalogue' }],
        onLine: ({ row }) => rows.push(row),
      })
      await catalogue.close()
      expect(fault).toBe(undefined)
      const files = rows.filter(({ kind }) => kind === 'file')
      const recorded = new Set(
        files.flatMap(({ chunks = [] }) =>
          chunks.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i)),
        ),
      )
      expect([...arrived].filter((chunk) => !recorded.has(chunk))).toEqual([])
      expect(files.reduce((sum, row) => sum + row.bytes, 0)).toBeGreaterThanOrEqual(bytes)
      expect(rows.map(({ kind }) => kind)).toContain('killed')
    },
  )
})
