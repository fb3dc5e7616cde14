/**
 * Answers from the egress ledger of a node: who got what, whether its rows are whole, and whether what was sent is what
 * the store holds. Reads only. Recording is in egress.ts.
 */
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import type { Membership } from '../consortium/membership.ts'
import { type Digest, digestOf, sha256, toHex } from '../lib/bytes.ts'
import { HASH_BYTES } from '../lib/file-ref.ts'
import { pathExists } from '../lib/files.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { digestOfHashes } from '../store/egress-book.ts'
import {
  ANCHOR_SOURCE,
  type ChainReport,
  checkChain,
  type EgressAnchor,
  type EgressFault,
} from '../store/egress-chain.ts'
import { ownPendingPath } from '../store/egress-files.ts'
import { type EgressBody, type EgressRow, NOBODY } from '../store/egress-row.ts'
import type { NodeEgress } from './egress.ts'

export interface EgressParts {
  readonly egress: NodeEgress
  readonly blobs: BlobStore
  readonly membership: Membership
}

/** What one receiver got of one kind. */
export interface EgressItem {
  readonly to: string
  /** Absent for a receiver that is no member. */
  readonly institution?: string
  readonly kind: string
  readonly file?: Digest
  /** The file, for people. */
  readonly name?: string
  readonly rows: number
  /** Number of objects. */
  readonly count: number
  readonly bytes: number
  readonly tokens?: number
}

export interface EgressReport {
  /** Unix seconds; 0 for everything. */
  readonly since: number
  readonly items: readonly EgressItem[]
  readonly bytes: number
  readonly rows: number
  /** Unix seconds of the first row before which only totals were kept; absent if nothing was removed. */
  readonly removedBefore?: number
  /** Ends of the node without closing, and rows that were missing when it started. */
  readonly notes: readonly { readonly at: number; readonly kind: string; readonly text: string }[]
  /** Whether the node was killed and has not been started since. */
  readonly isInterrupted: boolean
  readonly fault?: EgressFault
}

/** @param since Unix seconds */
export async function egressReport(parts: EgressParts, since: number): Promise<EgressReport> {
  const { names } = await holdings(parts)
  const items = new Map<string, EgressItem>()
  const notes: { at: number; kind: string; text: string }[] = []
  const add = (row: Omit<EgressItem, 'institution' | 'name'>): void => {
    const key = JSON.stringify([row.to, row.kind, row.file])
    const known = items.get(key)
    const tokens = (known?.tokens ?? 0) + (row.tokens ?? 0)
    const institution = parts.membership.institutionOf(row.to)
    const name = row.file === undefined ? undefined : names.get(row.file)
    items.set(key, {
      to: row.to,
      ...(institution === row.to ? {} : { institution }),
      kind: row.kind,
      ...(row.file === undefined ? {} : { file: row.file }),
      ...(name === undefined ? {} : { name }),
      rows: (known?.rows ?? 0) + row.rows,
      count: (known?.count ?? 0) + row.count,
      bytes: (known?.bytes ?? 0) + row.bytes,
      ...(tokens === 0 ? {} : { tokens }),
    })
  }
  const addRow = (row: EgressBody): void => {
    if (row.until < since) return
    if (row.to === NOBODY) notes.push({ at: row.until, kind: row.kind, text: row.note ?? '' })
    else add({ ...row, rows: 1 })
  }
  const { summary, fault } = await checkLedger(parts, [], ({ row }) => addRow(row))
  const keeps = summary === undefined || summary.until < since ? [] : summary.totals
  for (const total of keeps) if (total.to !== NOBODY) add(total)
  for (const row of parts.egress.book?.pending() ?? []) addRow(row)
  const list = [...items.values()]
  return {
    since,
    items: list.sort((a, b) => compare(a.to, b.to) || b.bytes - a.bytes),
    bytes: list.reduce((sum, { bytes }) => sum + bytes, 0),
    rows: list.reduce((sum, { rows }) => sum + rows, 0),
    ...(summary === undefined ? {} : { removedBefore: summary.until }),
    notes: notes.filter(({ kind }) => kind === 'killed' || kind === 'damaged'),
    isInterrupted: await isInterrupted(parts),
    ...(fault === undefined ? {} : { fault }),
  }
}

export interface EgressVerification {
  readonly rows: number
  /** The last row, to be kept outside this machine. */
  readonly last: EgressAnchor | undefined
  /** Number of the last row that the signed head names, and when it was signed. */
  readonly signed: { readonly seq: number; readonly at: number } | undefined
  /** The first row that is broken. */
  readonly fault?: EgressFault
  /** Rows in which the ledger says that rows were missing when the node started. */
  readonly damaged: readonly { readonly seq: number; readonly text: string }[]
  readonly killed: number
  readonly isInterrupted: boolean
  /** Rows of objects that were compared with the store. */
  readonly same: number
  /** Rows of objects that the store does not hold any more. */
  readonly gone: number
  /** Rows of objects that the store holds with other content. */
  readonly different: readonly { readonly seq: number; readonly what: string }[]
}

/**
 * Check every row, and compare files and statements with the store.
 * @param expected a row that was noted outside this machine
 */
export async function verifyEgress(
  parts: EgressParts,
  expected: EgressAnchor | undefined,
  signal: AbortSignal,
): Promise<EgressVerification> {
  await parts.egress.book?.persist()
  const objects: EgressRow[] = []
  const damaged: { seq: number; text: string }[] = []
  let killed = 0
  const anchors = expected === undefined ? [] : [{ ...expected, source: 'the row given with --expect' }]
  const report = await checkLedger(parts, anchors, ({ row }) => {
    if (row.kind === 'damaged') damaged.push({ seq: row.seq, text: row.note ?? '' })
    if (row.kind === 'killed') killed++
    if (COMPARED.includes(row.kind)) objects.push(row)
  })
  const { head, fault, rows, last } = report
  return {
    rows,
    last,
    signed: head === undefined ? undefined : { seq: head.seq, at: head.signedAt },
    ...(fault === undefined ? {} : { fault }),
    damaged,
    killed,
    isInterrupted: await isInterrupted(parts),
    ...(await compareWithStore(parts, objects, signal)),
  }
}

async function checkLedger(
  { egress }: EgressParts,
  more: readonly (EgressAnchor & { readonly source: string })[],
  onLine: (line: { readonly row: EgressRow }) => void,
): Promise<ChainReport> {
  const { init, signer, anchor, tip } = egress
  const stored = await anchor.get()
  return checkChain({
    dir: init.dir,
    signer,
    anchors: [
      ...(stored === undefined ? [] : [{ ...stored, source: ANCHOR_SOURCE }]),
      ...(tip === undefined || tip.seq === 0 ? [] : [{ ...tip, source: 'the running node' }]),
      ...more,
    ],
    ...(tip === undefined ? {} : { through: tip.seq }),
    onLine,
  })
}

/** Whether a process that recorded was killed, and its last rows wait for the next start. */
async function isInterrupted({ egress }: EgressParts): Promise<boolean> {
  return egress.book === undefined && (await pathExists(ownPendingPath(egress.init.dir)))
}

/** Kinds whose objects the store holds. */
const COMPARED = ['file', 'chunk-hashes', 'statement', 'charter']

async function compareWithStore(
  parts: EgressParts,
  rows: readonly EgressRow[],
  signal: AbortSignal,
): Promise<Pick<EgressVerification, 'same' | 'gone' | 'different'>> {
  const { statements, names } = await holdings(parts)
  const hashes = new Map<Digest, Uint8Array | undefined>()
  let [same, gone] = [0, 0]
  const different: { seq: number; what: string }[] = []
  for (const row of rows) {
    signal.throwIfAborted()
    const { file } = row
    if (file === undefined) {
      if (row.digest !== undefined && statements.has(row.digest)) same++
      else gone++
      continue
    }
    if (!hashes.has(file)) {
      const isHeld = await parts.blobs.has(file)
      hashes.set(file, isHeld ? await parts.blobs.chunkHashes(file, signal) : undefined)
    }
    const held = hashes.get(file)
    if (held === undefined) gone++
    else if (row.digest === digestInStore(row, held)) same++
    else different.push({ seq: row.seq, what: `${row.kind} of ${names.get(file) ?? file}` })
  }
  return { same, gone, different }
}

/** The digest that a row of a file has if exactly the bytes of the store were sent. */
function digestInStore({ kind, chunks = [], count }: EgressRow, hashes: Uint8Array): Digest {
  if (kind === 'chunk-hashes') {
    const one = sha256(hashes)
    return count === 1 ? `sha256:${toHex(one)}` : digestOfHashes(Array.from({ length: count }, () => one))
  }
  const parts = chunks.map(([first, last]) => hashes.subarray(first * HASH_BYTES, (last + 1) * HASH_BYTES))
  return digestOfHashes(parts)
}

/** What the catalogue holds: the SHA-256 of every envelope, and names for people of the files that they describe. */
async function holdings({
  egress,
  membership,
}: EgressParts): Promise<{ statements: ReadonlySet<Digest>; names: ReadonlyMap<Digest, string> }> {
  const { catalogue } = egress.init
  const statements = new Set<Digest>()
  const names = new Map<Digest, string>()
  for (const { name, sha256 } of membership.charter.publicModel.files)
    names.set(sha256, `public model, ${name}`)
  for (const [, envelope] of await catalogue.entries('rosters')) statements.add(digestOf(envelope))
  for (const publisher of (await catalogue.tips()).keys()) {
    for (let from = 1; ; ) {
      const page = await catalogue.log(publisher, from, PAGE)
      for (const { envelope } of page) {
        statements.add(digestOf(envelope))
        const manifest = readLoggedManifest(envelope)
        for (const { sha256 } of manifest?.files ?? [])
          names.set(sha256, `expert ${manifest?.expert.name} of ${membership.institutionOf(publisher)}`)
      }
      if (page.length < PAGE) break
      from += page.length
    }
  }
  return { statements, names }
}
/** Number of statements that are read at once. */
const PAGE = 256

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
