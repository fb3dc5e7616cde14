/**
 * Finds the files with text below the folders of an owner, each once, and records those that it passes over. Opens no
 * file.
 */
import { readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative, sep } from 'node:path'
import { hasErrno, InputError } from '../lib/errors.ts'
import { mapDiskErrors } from '../lib/files.ts'
import { extensionOf, TEXT_KINDS, type TextKind, textKind, whyPassedOver } from './file-kinds.ts'
import { ReadingLog } from './reading-report.ts'

/** Number of times that a text file is read: first to recognise its encoding, then for its text. */
const TEXT_PASSES = 2

export interface FoundFile {
  readonly path: string
  /** The path from the parent folder of the --data path on, for people. */
  readonly name: string
  readonly kind: TextKind
}

interface Root {
  readonly path: string
  /** Absolute, without symbolic links. */
  readonly real: string
  readonly isFolder: boolean
}

/** A file or folder while it is visited. */
interface Place {
  readonly path: string
  readonly real: string
  readonly name: string
  /** Whether a symbolic link below a --data path led here. */
  readonly linked: boolean
}

/**
 * The files below `paths`, by path in the given order, sorted by name within a folder. Files that are given by name
 * are read whatever their name begins with. Symbolic links are followed unless they lead to a place that is read
 * anyway, so no file is read twice and cycles end.
 * @throws InputError `not-found`, `permissions`; `usage` for a given file that cannot be read.
 */
export async function* findFiles(
  paths: readonly string[],
  log: ReadingLog,
  signal?: AbortSignal,
): AsyncGenerator<FoundFile, void, void> {
  const roots = await Promise.all(paths.map(rootOf))
  const search = new Search(roots, log, signal)
  for (const root of roots) yield* search.below(root)
}

/**
 * Number of bytes that reading the files below `paths` takes, for progress: files whose encoding must be recognised are
 * read twice.
 * @throws as `findFiles`.
 */
export async function readingBytes(paths: readonly string[], signal?: AbortSignal): Promise<number> {
  let bytes = 0
  for await (const { path, kind } of findFiles(paths, new ReadingLog(), signal)) {
    const { size } = await mapDiskErrors(path, () => stat(path))
    bytes += kind.format === 'parquet' ? size : TEXT_PASSES * size
  }
  return bytes
}

/** @throws InputError `not-found`, `permissions`; `usage` for a file of another kind or a device. */
async function rootOf(path: string): Promise<Root> {
  const info = await mapDiskErrors(path, () => stat(path))
  const real = await mapDiskErrors(path, () => realpath(path))
  if (info.isDirectory()) return { path, real, isFolder: true }
  if (!info.isFile()) {
    throw new InputError('usage', `${path}: neither a file nor a folder; --data takes files and folders`)
  }
  if (textKind(path) === undefined) {
    const advice =
      extensionOf(path) === '.json'
        ? `; to convert a JSON array, run "jq -c '.[]' '${path}' > NEW.jsonl"`
        : ''
    throw new InputError(
      'usage',
      `${path}: files of this kind cannot be read; --data takes ${TEXT_KINDS}${advice}`,
    )
  }
  return { path, real, isFolder: false }
}

class Search {
  readonly #roots: readonly Root[]
  readonly #log: ReadingLog
  readonly #signal: AbortSignal | undefined
  /** Real paths of the folders that were entered. */
  readonly #entered = new Set<string>()
  /** Real paths of the files that were given by name or reached through links. */
  readonly #files = new Set<string>()

  constructor(roots: readonly Root[], log: ReadingLog, signal: AbortSignal | undefined) {
    this.#roots = roots
    this.#log = log
    this.#signal = signal
  }

  async *below({ path, real, isFolder }: Root): AsyncGenerator<FoundFile> {
    const place = { path, real, name: basename(path), linked: false }
    if (isFolder) yield* this.#folder(place)
    else if (this.#entered.has(dirname(real)) && whyPassedOver(basename(real)) === undefined)
      this.#log.add('skipped', 'again', place.name)
    else yield* this.#file(place, textKind(path) as TextKind, true)
  }

  async *#folder(place: Place): AsyncGenerator<FoundFile> {
    const { path, real, name, linked } = place
    this.#signal?.throwIfAborted()
    if (this.#entered.has(real) || (linked && this.#isReadInPlace(real, false))) {
      this.#log.add('skipped', 'again', name)
      return
    }
    this.#entered.add(real)
    const entries = await mapDiskErrors(path, () => readdir(path, { withFileTypes: true }))
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const child = {
        path: join(path, entry.name),
        real: join(real, entry.name),
        name: `${name}${sep}${entry.name}`,
        linked,
      }
      const reason = whyPassedOver(entry.name)
      if (reason !== undefined) this.#log.add('skipped', reason, child.name)
      else if (entry.name.includes('\ufffd') && !(await exists(child.path)))
        this.#log.add('skipped', 'not-utf8-name', child.name)
      else if (entry.isSymbolicLink()) yield* this.#link(child)
      else if (entry.isDirectory()) yield* this.#folder(child)
      else if (!entry.isFile()) this.#log.add('skipped', 'not-regular', child.name)
      else yield* this.#ofKind(child, textKind(entry.name), linked)
    }
  }

  async *#link(link: Place): AsyncGenerator<FoundFile> {
    const target = await targetOf(link.path)
    if (target === undefined) {
      this.#log.add('skipped', 'broken-link', link.name)
      return
    }
    const { real, info } = target
    const place = { ...link, real, linked: true }
    if (!info.isDirectory() && !info.isFile()) {
      this.#log.add('skipped', 'not-regular', link.name)
    } else if (info.isDirectory() && this.#isAboveRoot(real)) {
      this.#log.add('skipped', 'link-above', link.name)
    } else if (this.#isReadInPlace(real, info.isFile())) {
      this.#log.add('skipped', 'again', link.name)
    } else {
      this.#log.add('links', 'link', link.name)
      if (info.isDirectory()) yield* this.#folder(place)
      else yield* this.#ofKind(place, textKind(link.path) ?? textKind(real), true)
    }
  }

  *#ofKind(place: Place, kind: TextKind | undefined, once: boolean): Generator<FoundFile> {
    if (kind !== undefined) yield* this.#file(place, kind, once)
    else this.#log.add('skipped', extensionOf(place.path) || 'no-extension', place.name)
  }

  /** @param once whether the file could be reached again from elsewhere, so that it must be remembered. */
  *#file({ path, real, name }: Place, kind: TextKind, once: boolean): Generator<FoundFile> {
    this.#signal?.throwIfAborted()
    if (this.#files.has(real)) {
      this.#log.add('skipped', 'again', name)
      return
    }
    if (once) this.#files.add(real)
    this.#log.add('read', kind.extension, name)
    yield { path, name, kind }
  }

  /** Whether the folder contains one of the roots: following a link to it would read what nobody asked for. */
  #isAboveRoot(real: string): boolean {
    return this.#roots.some((root) => root.real !== real && isWithin(real, root.real))
  }

  /** Whether a search from one of the roots finds the file or folder without following links. */
  #isReadInPlace(real: string, isFile: boolean): boolean {
    if (isFile && textKind(real) === undefined) return false
    return this.#roots.some((root) => {
      if (!root.isFolder || !isWithin(root.real, real)) return false
      const parts = relative(root.real, real).split(sep)
      return parts.every((part) => whyPassedOver(part) === undefined)
    })
  }
}

/** Whether `path` is `folder` or below it. */
function isWithin(folder: string, path: string): boolean {
  const below = relative(folder, path)
  return below !== '..' && !below.startsWith(`..${sep}`) && !isAbsolute(below)
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch {
    return false
  }
}

/** Where a symbolic link leads; undefined if it has no target. @throws InputError `permissions`. */
async function targetOf(
  path: string,
): Promise<{ real: string; info: Awaited<ReturnType<typeof stat>> } | undefined> {
  try {
    return await mapDiskErrors(path, async () => ({ real: await realpath(path), info: await stat(path) }))
  } catch (error) {
    const isMissing =
      error instanceof InputError && (error.code === 'not-found' || hasErrno(error.cause, 'ELOOP'))
    if (isMissing) return undefined
    throw error
  }
}
