/**
 * Which process uses a home folder, for messages to people. The lock of the catalogue decides whether a folder is in
 * use; this file beside it only says by whom, and is ignored if that process has ended.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fromUtf8 } from '../lib/bytes.ts'
import { Fields } from '../lib/fields.ts'
import { readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { isAlive } from '../lib/temporary.ts'

export interface Holder {
  readonly pid: number
  /** As typed, without its options: `flexmesh start`. */
  readonly command: string
  /** Unix seconds. */
  readonly since: number
}

const FILE = 'in-use.json'
const MAX_BYTES = 1024
const MAX_COMMAND = 100

/** Write who uses the folder. A failure, for example on a full disk, only makes a later message less precise. */
export async function writeHolder(dir: string, command: string): Promise<void> {
  const holder: Holder = { pid: process.pid, command, since: Math.floor(Date.now() / 1000) }
  await writeFileAtomic(join(dir, FILE), JSON.stringify(holder)).catch(() => undefined)
}

export async function removeHolder(dir: string): Promise<void> {
  await rm(join(dir, FILE), { force: true }).catch(() => undefined)
}

/** Who uses the folder; undefined if that is not known. */
export async function readHolder(dir: string): Promise<Holder | undefined> {
  try {
    const bytes = await readFileBounded(join(dir, FILE), MAX_BYTES)
    const fields = new Fields(JSON.parse(fromUtf8(bytes)), FILE)
    const holder = {
      pid: fields.uint('pid'),
      command: fields.text('command', MAX_COMMAND, /^[\x20-\x7e]+$/),
      since: fields.uint('since'),
    }
    return isAlive(holder.pid) ? holder : undefined
  } catch {
    return undefined
  }
}
