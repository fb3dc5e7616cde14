/**
 * Measures the checks on the bytes of a received package, without writing them: every chunk against its signed hash
 * and, in a second thread that follows, the digest of the file. The baseline is SHA-256 over the same file.
 */
import { createHash, randomFillSync } from 'node:crypto'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sha256 } from '../../../src/lib/bytes.ts'
import {
  checkChunkHash,
  checkChunkHashes,
  checkChunkLength,
  fileRefOfPath,
  type HashedFile,
} from '../../../src/lib/file-ref.ts'
import { limit } from '../../../src/lib/limits.ts'
import { FileHashWorker } from '../../../src/store/file-hash-worker.ts'
import { median, rounded } from '../machine.ts'

const MIB = 1024
const ROUNDS = 5
const CHUNK = limit('chunkBytes')

export async function verifyPackages(
  say: (line: string) => void,
): Promise<{ packageMiBs: number; sha256MiBs: number; ratio: number }> {
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  try {
    const path = join(work, 'package')
    const file = await open(path, 'w')
    const bytes = new Uint8Array(CHUNK)
    for (let i = 0; i < MIB; i++) await file.write(randomFillSync(bytes))
    await file.close()
    const hashed = await fileRefOfPath(path)
    const ours: number[] = []
    const plain: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      ours.push(await rate(() => verifyFile(path, hashed)))
      plain.push(await rate(() => hashAlone(path)))
      say(
        `1 GiB, round ${round + 1} of ${ROUNDS}: verified ${ours.at(-1)} MiB/s, sha256 ${plain.at(-1)} MiB/s`,
      )
    }
    const ratio = rounded(median(ours) / median(plain))
    return { packageMiBs: median(ours), sha256MiBs: median(plain), ratio }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function rate(action: () => Promise<void>): Promise<number> {
  const started = performance.now()
  await action()
  return Math.round((MIB * 1000) / (performance.now() - started))
}

async function verifyFile(path: string, { ref, chunkHashes }: HashedFile): Promise<void> {
  checkChunkHashes(ref, chunkHashes)
  const handle = await open(path, 'r')
  const worker = new FileHashWorker(handle.fd)
  try {
    await eachChunk(path, (chunk, index) => {
      checkChunkLength(ref, index, chunk.length)
      checkChunkHash(ref, chunkHashes, index, sha256(chunk))
      worker.advance(Math.min((index + 1) * CHUNK, ref.size))
    })
    if ((await worker.finish(ref.size)) !== ref.sha256) throw new Error('the file does not verify')
  } finally {
    await worker.close()
    await handle.close()
  }
}

async function hashAlone(path: string): Promise<void> {
  const hash = createHash('sha256')
  await eachChunk(path, (chunk) => hash.update(chunk))
  hash.digest()
}

async function eachChunk(path: string, use: (chunk: Uint8Array, index: number) => void): Promise<void> {
  const handle = await open(path, 'r')
  try {
    const buffer = new Uint8Array(CHUNK)
    for (let index = 0; index < MIB; index++) {
      const { bytesRead } = await handle.read(buffer, 0, CHUNK, index * CHUNK)
      use(buffer.subarray(0, bytesRead), index)
    }
  } finally {
    await handle.close()
  }
}
