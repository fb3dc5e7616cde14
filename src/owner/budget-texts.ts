/**
 * What texts are, for the account of privacy: a set of keyed digests, one for each document, so that the account finds a
 * document again in another training and tells nobody what it was. The key is made once for each home. A document is
 * recognised by its tokens: with another spelling, or cut elsewhere, it counts as another one. Knows nothing about
 * epsilon.
 */
import { createHmac, type Hmac, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { TokenFile } from '../data/token-file.ts'
import { FormatError } from '../lib/errors.ts'
import { ensurePrivateDir, pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { createOnce } from './budget-log.ts'

/** The documents of a text. */
export interface TextSet {
  /** Digest of the set, in hexadecimal: two texts with the same documents have the same one. */
  readonly id: string
  readonly documents: number
}

/** Documents that occur in exactly the same sets. */
export interface DocumentGroup {
  /** Ids of the sets, ascending. */
  readonly sets: readonly string[]
  readonly documents: number
}

const KEY_FILE = 'key'
const KEY_BYTES = 32
/** Bytes of a digest that are kept: two of ten million documents have the same with a probability of 10^-25. */
const DIGEST_BYTES = 16
const ID_BYTES = 16
/** Ids that are read at once: 4 MiB. */
const PIECE_IDS = 2 ** 20
/** A set of 64 million documents. */
const MAX_SET_BYTES = 2 ** 30

/**
 * Keep the set of the documents of a token file, unless it is kept already.
 * @param boundary the token that begins every document.
 * @throws InputError `disk-full`; the signal's reason.
 */
export async function keepTexts(
  dir: string,
  file: Pick<TokenFile, 'read'>,
  boundary: number,
  signal?: AbortSignal,
): Promise<TextSet> {
  await ensurePrivateDir(dir)
  const key = await keyOf(dir)
  const digests: Buffer[] = []
  for await (const digest of documentDigests(file, boundary, key)) {
    signal?.throwIfAborted()
    digests.push(digest)
  }
  digests.sort(Buffer.compare)
  const distinct = digests.filter((digest, i) => i === 0 || !digest.equals(digests[i - 1] as Buffer))
  const set = Buffer.concat(distinct)
  const id = createHmac('sha256', key)
    .update(set)
    .digest('hex')
    .slice(0, 2 * ID_BYTES)
  if (!(await pathExists(setPath(dir, id)))) await writeFileAtomic(setPath(dir, id), set)
  return { id, documents: distinct.length }
}

/**
 * The documents of several sets, grouped by the sets that they are in.
 * @throws FormatError `truncated`; InputError `not-found` if a set is missing.
 */
export async function groupDocuments(dir: string, ids: readonly string[]): Promise<DocumentGroup[]> {
  const sorted = [...new Set(ids)].sort()
  const sets = await Promise.all(sorted.map((id) => readSet(dir, id)))
  const at = sets.map(() => 0)
  const groups = new Map<string, { sets: string[]; documents: number }>()
  for (;;) {
    let least: Buffer | undefined
    for (const [i, set] of sets.entries()) {
      const from = at[i] as number
      if (from === set.length) continue
      if (least === undefined || set.compare(least, 0, DIGEST_BYTES, from, from + DIGEST_BYTES) < 0) {
        least = set.subarray(from, from + DIGEST_BYTES)
      }
    }
    if (least === undefined) return [...groups.values()]
    const holders: string[] = []
    for (const [i, set] of sets.entries()) {
      const from = at[i] as number
      if (from === set.length) continue
      if (set.compare(least, 0, DIGEST_BYTES, from, from + DIGEST_BYTES) !== 0) continue
      holders.push(sorted[i] as string)
      at[i] = from + DIGEST_BYTES
    }
    const group = groups.get(holders.join())
    if (group === undefined) groups.set(holders.join(), { sets: holders, documents: 1 })
    else group.documents++
  }
}

async function readSet(dir: string, id: string): Promise<Buffer> {
  const bytes = await readFileBounded(setPath(dir, id), MAX_SET_BYTES)
  if (bytes.length % DIGEST_BYTES !== 0) {
    throw new FormatError(
      'truncated',
      `${setPath(dir, id)}: expected digests of ${DIGEST_BYTES} bytes, got ${bytes.length} bytes; restore the file from a backup`,
    )
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

function setPath(dir: string, id: string): string {
  return join(dir, `${id}.texts`)
}

/** The key of the digests. Two processes that make it at the same time agree on one. */
async function keyOf(dir: string): Promise<Uint8Array> {
  const path = join(dir, KEY_FILE)
  if (!(await pathExists(path))) await createOnce(path, randomBytes(KEY_BYTES))
  const key = await readFileBounded(path, KEY_BYTES)
  if (key.length === KEY_BYTES) return key
  throw new FormatError(
    'truncated',
    `${path}: expected ${KEY_BYTES} bytes, got ${key.length}; restore it from a backup`,
  )
}

/** One digest for each document of at least one token. */
async function* documentDigests(
  file: Pick<TokenFile, 'read'>,
  boundary: number,
  key: Uint8Array,
): AsyncGenerator<Buffer, void, void> {
  let hash: Hmac | undefined
  let tokens = 0
  const finish = (): Buffer | undefined =>
    tokens === 0 ? undefined : hash?.digest().subarray(0, DIGEST_BYTES)
  for (let start = 0; ; start += PIECE_IDS) {
    const ids = await file.read(start, PIECE_IDS)
    for (let from = 0; ; ) {
      const next = ids.indexOf(boundary, from)
      const part = ids.subarray(from, next < 0 ? ids.length : next)
      hash ??= createHmac('sha256', key)
      hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
      tokens += part.length
      if (next < 0) break
      const digest = finish()
      if (digest !== undefined) yield digest
      hash = undefined
      tokens = 0
      from = next + 1
    }
    if (ids.length < PIECE_IDS) break
  }
  const last = finish()
  if (last !== undefined) yield last
}
