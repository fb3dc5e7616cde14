/**
 * The entries of the account of privacy, in order: one file for each, numbered from 1, which is never changed. A new
 * entry is on disk, flushed, before `append` resolves, and two writers, in whatever threads or processes, never take the
 * same number. Knows the form of entries, but computes nothing from them.
 */
import { randomBytes } from 'node:crypto'
import { link, open, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fromUtf8, toHex } from '../lib/bytes.ts'
import { FormatError, hasErrno } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import {
  ensurePrivateDir,
  mapDiskErrors,
  PRIVATE_FILE_MODE,
  pathExists,
  readFileBounded,
  syncDir,
} from '../lib/files.ts'
import type { SubsampledGaussian } from '../privacy/accountant.ts'

/** What was spent on a text. */
export interface Spending {
  readonly kind: 'spending'
  /** Unix seconds. */
  readonly at: number
  /** Name of the training. */
  readonly training: string
  readonly by: 'training' | 'publication'
  /** A training that is continued keeps its run and is not paid again. */
  readonly run: string
  /** Id of the set of documents. */
  readonly texts: string
  readonly documents: number
  /** What it was spent on, for people. */
  readonly purpose: string
  /** Undefined if nothing bounds what can be learned of the text; empty if nothing has left this machine yet. */
  readonly mechanisms: readonly SubsampledGaussian[] | undefined
  /** The part of delta that these mechanisms need besides that of the accountant. */
  readonly truncationDelta: number
  /** Delta with which the owner stated epsilon; undefined if no epsilon was stated. */
  readonly delta?: number | undefined
}

/** A training that ended early has spent fewer steps than it had reserved. */
export interface Settlement {
  readonly kind: 'settlement'
  readonly at: number
  readonly run: string
  /** Number of steps whose results were kept. */
  readonly steps: number
}

/** The operator's limit from here on. */
export interface LimitEntry {
  readonly kind: 'limit'
  readonly at: number
  /** Undefined ends the limit. */
  readonly limit: PrivacyLimit | undefined
}

export interface PrivacyLimit {
  readonly epsilon: number
  readonly delta: number
}

export type BudgetEntry = Spending | Settlement | LimitEntry

const ENTRY_FILE = /^(\d{8})\.json$/
const MAX_ENTRY_BYTES = 64 * 1024
const MAX_MECHANISMS = 64
const MAX_TEXT = 200

/** All entries, in order. @throws FormatError for an entry that is missing or was changed. */
export async function readEntries(dir: string): Promise<BudgetEntry[]> {
  if (!(await pathExists(dir))) return []
  const numbers = (await mapDiskErrors(dir, () => readdir(dir)))
    .flatMap((name) => ENTRY_FILE.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b)
  const missing = numbers.findIndex((number, i) => number !== i + 1)
  if (missing >= 0) {
    throw new FormatError(
      'truncated',
      `${entryPath(dir, missing + 1)} is missing, so what was spent is not known; restore it from a backup`,
    )
  }
  return Promise.all(numbers.map((number) => readEntry(entryPath(dir, number))))
}

/**
 * Add an entry after those that `decide` has seen. If another writer adds one meanwhile, `decide` is called again.
 * @param decide returns the new entry, or undefined to add none.
 * @throws what `decide` throws, as `readEntries`, InputError `disk-full`.
 */
export async function append(
  dir: string,
  decide: (entries: readonly BudgetEntry[]) => Promise<BudgetEntry | undefined>,
): Promise<void> {
  await ensurePrivateDir(dir)
  for (;;) {
    const entries = await readEntries(dir)
    const entry = await decide(entries)
    if (entry === undefined) return
    if (await createOnce(entryPath(dir, entries.length + 1), `${JSON.stringify({ version: 1, ...entry })}\n`))
      return
  }
}

/**
 * Create a file with its whole content, flushed, unless it exists.
 * @returns false if it exists.
 */
export async function createOnce(path: string, content: string | Uint8Array): Promise<boolean> {
  const temporary = join(dirname(path), `.${toHex(randomBytes(8))}.tmp`)
  return mapDiskErrors(path, async () => {
    try {
      const handle = await open(temporary, 'wx', PRIVATE_FILE_MODE)
      try {
        await handle.writeFile(content)
        await handle.sync()
      } finally {
        await handle.close()
      }
      // Unlike a rename, a link never replaces a file.
      await link(temporary, path)
      await syncDir(dirname(path))
      return true
    } catch (error) {
      if (hasErrno(error, 'EEXIST')) return false
      throw error
    } finally {
      await rm(temporary, { force: true })
    }
  })
}

function entryPath(dir: string, number: number): string {
  return join(dir, `${String(number).padStart(8, '0')}.json`)
}

async function readEntry(path: string): Promise<BudgetEntry> {
  const text = fromUtf8(await readFileBounded(path, MAX_ENTRY_BYTES))
  try {
    return decode(new Fields(JSON.parse(text), path))
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new FormatError('not-json', `${path}: expected JSON; restore it from a backup`, {}, error)
  }
}

function decode(fields: Fields): BudgetEntry {
  fields.literal('version', 1)
  const kind = fields.literal('kind', 'spending', 'settlement', 'limit')
  const at = fields.uint('at')
  if (kind === 'limit') {
    return { kind, at, limit: fields.has('limit') ? readLimit(fields.object('limit')) : undefined }
  }
  const run = fields.text('run', MAX_TEXT)
  if (kind === 'settlement') return { kind, at, run, steps: fields.uint('steps') }
  return {
    kind,
    at,
    run,
    by: fields.literal('by', 'training', 'publication'),
    training: fields.text('training', MAX_TEXT),
    texts: fields.text('texts', MAX_TEXT, /^[0-9a-f]+$/),
    documents: fields.uint('documents'),
    purpose: fields.text('purpose', MAX_TEXT),
    mechanisms: fields.has('mechanisms')
      ? fields.list('mechanisms', MAX_MECHANISMS, readMechanism)
      : undefined,
    truncationDelta: fields.number('truncationDelta', 0, 1),
    delta: fields.has('delta') ? fields.number('delta', 0, 1) : undefined,
  }
}

function readLimit(fields: Fields): PrivacyLimit {
  return {
    epsilon: fields.number('epsilon', 0, Number.MAX_VALUE),
    delta: fields.number('delta', 0, 1),
  }
}

function readMechanism(item: unknown, title: string): SubsampledGaussian {
  const fields = new Fields(item, title)
  return {
    noiseMultiplier: fields.number('noiseMultiplier', 0, Number.MAX_VALUE),
    sampleRate: fields.number('sampleRate', 0, 1),
    steps: fields.uint('steps'),
  }
}
