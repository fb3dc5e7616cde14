/**
 * helia's bitswap over js-libp2p with js-libp2p's settings, if it is installed in the folder of peers. It moves the
 * same bytes as blocks of one chunk, each verified by its hash and kept in helia's file store, which does not flush
 * to disk.
 */
import { setMaxListeners } from 'node:events'
import { readFileSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { multiaddr } from '@multiformats/multiaddr'
import { limit } from '../../../src/lib/limits.ts'
import { type End, type EndInit, startDefaults, TIMEOUT_MS } from './end.ts'

const PEERS = new URL('../peers/node_modules/', import.meta.url)
const BITSWAP = '@helia/bitswap'
/** Number of blocks requested at the same time. */
const WANTED = 32
const RAW_CODEC = 0x55

/** The parts used of packages that this project does not depend on, so that the compiler has no types for them. */
interface Cid {
  toString(): string
}
interface Modules {
  createBitswap(components: Record<string, unknown>): {
    want(cid: Cid, options: { signal: AbortSignal }): Promise<Uint8Array>
    start(): Promise<void>
  }
  FsBlockstore: new (path: string) => Blockstore
  defaultLogger(): unknown
  sha256: { digest(bytes: Uint8Array): Promise<unknown> }
  CID: { createV1(codec: number, digest: unknown): Cid; parse(text: string): Cid }
}
interface Blockstore {
  open(): Promise<void>
  put(cid: Cid, block: Uint8Array): Promise<unknown>
}
interface Offer {
  readonly address: string
  readonly cids: readonly string[]
}

/** Version of helia's bitswap; undefined if it is not installed. */
export function bitswapVersion(): string | undefined {
  try {
    const path = new URL(`${BITSWAP}/package.json`, PEERS)
    return `${BITSWAP} ${(JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version}`
  } catch {
    return undefined
  }
}

async function loadModules(): Promise<Modules> {
  const paths = [
    `${BITSWAP}/dist/src/index.js`,
    'blockstore-fs/dist/src/index.js',
    '@libp2p/logger/dist/src/index.js',
    'multiformats/dist/src/cid.js',
    'multiformats/dist/src/hashes/sha2.js',
  ]
  const loaded = await Promise.all(paths.map((path) => import(new URL(path, PEERS).href)))
  return Object.assign({}, ...loaded) as Modules
}

export async function bitswapEnd({ role, dir, file }: EndInit): Promise<End> {
  const { createBitswap, FsBlockstore, defaultLogger, sha256, CID } = await loadModules()
  const blockstore = new FsBlockstore(dir)
  await blockstore.open()
  const libp2p = await startDefaults()
  const bitswap = createBitswap({
    libp2p,
    blockstore,
    logger: defaultLogger(),
    getHasher: async () => sha256,
    // The provider is connected already, so none has to be found.
    routing: { async *findProviders() {} },
  })
  await bitswap.start()
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  setMaxListeners(0, signal) // Every requested block adds a listener.
  if (role === 'sender') {
    const cids: string[] = []
    const handle = await open(file, 'r')
    const bytes = new Uint8Array(limit('chunkBytes'))
    while ((await handle.read(bytes)).bytesRead > 0) {
      const cid = CID.createV1(RAW_CODEC, await sha256.digest(bytes))
      await blockstore.put(cid, bytes)
      cids.push(cid.toString())
    }
    await handle.close()
    return { offer: { address: String(libp2p.getMultiaddrs()[0]), cids } satisfies Offer }
  }
  return {
    prepare: async (offers) => {
      for (const { address } of offers as Offer[]) await libp2p.dial(multiaddr(address), { signal })
    },
    receive: async (offers) => {
      const [{ cids }] = offers as [Offer]
      const waiting = cids.values()
      const take = async (): Promise<void> => {
        for (const text of waiting) {
          const cid = CID.parse(text)
          await blockstore.put(cid, await bitswap.want(cid, { signal }))
        }
      }
      await Promise.all(Array.from({ length: WANTED }, take))
    },
    forget: async () => {
      await rm(dir, { recursive: true, force: true })
      await blockstore.open()
    },
  }
}
