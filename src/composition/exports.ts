/**
 * The models that this node has exported, and the notices beside those that contain a withdrawn expert. Writes nothing
 * into a folder but the notice. Does not know what an export contains besides the ids of its packages.
 */
import { join } from 'node:path'
import { type Digest, digestOf, fromUtf8, utf8 } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { pathExists, writeFileAtomic } from '../lib/files.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { Log } from '../telemetry/log.ts'

/** The file beside an export that names the withdrawn experts in it. */
export const NOTICE_FILE = 'WITHDRAWN.txt'

export interface ExportRecord {
  readonly directory: string
  /** Digest of the exported composition. */
  readonly composition: Digest
  /** Ids of the packages in it. */
  readonly packages: readonly Digest[]
  /** Unix seconds. */
  readonly at: number
  /** Those of the packages that were withdrawn since. */
  readonly withdrawn: readonly WithdrawnExpert[]
}

export interface WithdrawnExpert {
  /** Package id. */
  readonly id: Digest
  readonly name: string
  readonly institution: string
  /** When this node carried the withdrawal out, Unix seconds. */
  readonly at: number
}

/** Whether a notice lies beside an export. */
export interface MarkedExport {
  readonly composition: Digest
  readonly marked: boolean
}

export class Exports {
  readonly #catalogue: Catalogue
  readonly #log: Log

  constructor(catalogue: Catalogue, log: Log) {
    this.#catalogue = catalogue
    this.#log = log
  }

  /** Remember an export whose files were written. A folder has one export. @throws InputError `disk-full`, `io`. */
  async record(made: Omit<ExportRecord, 'withdrawn'>): Promise<void> {
    await this.#put({ ...made, withdrawn: [] })
  }

  /** Newest first. */
  async list(): Promise<ExportRecord[]> {
    const entries = await this.#catalogue.entries('exports')
    return entries.map(([, bytes]) => JSON.parse(fromUtf8(bytes)) as ExportRecord).sort((a, b) => b.at - a.at)
  }

  /**
   * Write a notice beside each export that contains one of these experts. A folder that is gone, or whose disk refuses,
   * is reported as not marked.
   * @throws InputError `disk-full`, `io` if that cannot be remembered.
   */
  async mark(experts: readonly WithdrawnExpert[]): Promise<MarkedExport[]> {
    const receipts: MarkedExport[] = []
    for (const made of await this.list()) {
      const found = experts.filter(({ id }) => made.packages.includes(id))
      if (found.length === 0) continue
      const known = new Set(made.withdrawn.map(({ id }) => id))
      const marked = {
        ...made,
        withdrawn: [...made.withdrawn, ...found.filter(({ id }) => !known.has(id))],
      }
      await this.#put(marked)
      receipts.push({ composition: made.composition, marked: await this.#writeNotice(marked) })
    }
    return receipts
  }

  async #put(made: ExportRecord): Promise<void> {
    const key = digestOf(utf8(made.directory))
    await this.#catalogue.put('exports', key, utf8(JSON.stringify(made)))
  }

  async #writeNotice({ directory, withdrawn }: ExportRecord): Promise<boolean> {
    try {
      if (!(await pathExists(directory))) return false
      await writeFileAtomic(join(directory, NOTICE_FILE), notice(withdrawn))
      return true
    } catch (error) {
      if (!(error instanceof FlexMeshError)) throw error
      this.#log.warn(`no notice could be written into the export ${directory}`, error)
      return false
    }
  }
}

function notice(withdrawn: readonly WithdrawnExpert[]): string {
  const lines = withdrawn.map(
    ({ id, name, institution, at }) => `${institution}/${name} (${id}), ${new Date(at * 1000).toISOString()}`,
  )
  return [
    'This model contains experts whose use has ended because they were withdrawn:',
    '',
    ...lines,
    '',
    'Stop serving it, delete it and its copies, and export a composition without these experts:',
    'flexmesh compose --export NEW_FOLDER',
    '',
  ].join('\n')
}
