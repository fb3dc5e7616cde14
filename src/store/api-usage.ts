/**
 * What the API has served to each key on each day in UTC: numbers of requests and tokens, no content. Kept in memory and
 * written to a file now and then; a node that is killed forgets what came after the last write. Knows nothing about HTTP.
 */
import { fromUtf8 } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'

export interface DayUsage {
  /** As in `2026-11-28`. */
  readonly day: string
  /** Name of the key. */
  readonly key: string
  readonly requests: number
  readonly promptTokens: number
  readonly generatedTokens: number
  /** Generated tokens by the routing weight of the institutions that carried them; without those of an upstream. */
  readonly carried: readonly Carried[]
}

export interface Carried {
  readonly institution: string
  /** Sum of routing weights, so not a whole number. */
  readonly tokens: number
}

const MAX_FILE_BYTES = 16 * 1024 * 1024
const MAX_ENTRIES = 100_000
const DAY = /^\d{4}-\d\d-\d\d$/
const MAX_KEY = 64
const MAX_INSTITUTION = 200
const MAX_CARRIED = 1024

export class ApiUsage {
  readonly #path: string
  readonly #days: Map<string, DayUsage>
  readonly #writes = new Serial()
  #isChanged = false

  private constructor(path: string, entries: readonly DayUsage[]) {
    this.#path = path
    this.#days = new Map(entries.map((entry) => [idOf(entry.day, entry.key), entry]))
  }

  static async open(path: string): Promise<ApiUsage> {
    return new ApiUsage(path, await readApiUsage(path))
  }

  /** @param at Unix seconds */
  add(at: number, key: string, more: Omit<DayUsage, 'day' | 'key'>): void {
    const day = dayOf(at)
    const before = this.#days.get(idOf(day, key))
    this.#days.set(idOf(day, key), {
      day,
      key,
      requests: (before?.requests ?? 0) + more.requests,
      promptTokens: (before?.promptTokens ?? 0) + more.promptTokens,
      generatedTokens: (before?.generatedTokens ?? 0) + more.generatedTokens,
      carried: sumOf(before?.carried ?? [], more.carried),
    })
    this.#isChanged = true
  }

  /** Tokens of a key on the day of `at`. */
  tokens(at: number, key: string): number {
    const used = this.#days.get(idOf(dayOf(at), key))
    return (used?.promptTokens ?? 0) + (used?.generatedTokens ?? 0)
  }

  /** Write what has changed. Days older than `usageDays` are forgotten. @param now Unix seconds */
  flush(now: number): Promise<void> {
    return this.#writes.run(async () => {
      if (!this.#isChanged) return
      this.#isChanged = false
      const first = dayOf(now - limit('usageDays') * 86_400)
      for (const [id, { day }] of this.#days) if (day < first) this.#days.delete(id)
      await writeFileAtomic(this.#path, JSON.stringify({ days: [...this.#days.values()].map(written) }))
    })
  }
}

/** What the file holds, oldest first; nothing if it cannot be read. */
export async function readApiUsage(path: string): Promise<DayUsage[]> {
  if (!(await pathExists(path))) return []
  try {
    const value: unknown = JSON.parse(fromUtf8(await readFileBounded(path, MAX_FILE_BYTES)))
    const entries = new Fields(value, path).list('days', MAX_ENTRIES, readEntry)
    return entries.sort((a, b) => (a.day < b.day ? -1 : a.day > b.day ? 1 : 0))
  } catch (error) {
    if (error instanceof FlexMeshError || error instanceof SyntaxError) return []
    throw error
  }
}

function readEntry(value: unknown, title: string): DayUsage {
  const fields = new Fields(value, title)
  const entry = {
    day: fields.text('day', 10, DAY),
    key: fields.text('key', MAX_KEY),
    requests: fields.uint('requests'),
    promptTokens: fields.uint('promptTokens'),
    generatedTokens: fields.uint('generatedTokens'),
    // Absent from files of earlier versions.
    carried: fields.has('carried') ? fields.list('carried', MAX_CARRIED, readCarried) : [],
  }
  fields.end()
  return entry
}

function readCarried(value: unknown, title: string): Carried {
  const fields = new Fields(value, title)
  const carried = {
    institution: fields.text('institution', MAX_INSTITUTION),
    tokens: fields.uint('milliTokens') / 1000,
  }
  fields.end()
  return carried
}

function sumOf(before: readonly Carried[], more: readonly Carried[]): Carried[] {
  const sums = new Map(before.map(({ institution, tokens }) => [institution, tokens]))
  for (const { institution, tokens } of more) {
    if (sums.size < MAX_CARRIED || sums.has(institution))
      sums.set(institution, (sums.get(institution) ?? 0) + tokens)
  }
  return [...sums].map(([institution, tokens]) => ({ institution, tokens }))
}

/** Whole numbers of thousandths on disk. */
function written({ carried, ...entry }: DayUsage): object {
  return {
    ...entry,
    carried: carried.map(({ institution, tokens }) => ({
      institution,
      milliTokens: Math.round(1000 * tokens),
    })),
  }
}

function idOf(day: string, key: string): string {
  return `${day} ${key}`
}

function dayOf(at: number): string {
  return new Date(at * 1000).toISOString().slice(0, 10)
}
