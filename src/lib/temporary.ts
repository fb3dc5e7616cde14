/**
 * Names of temporary files and folders in which a large target is written before it is renamed. Each name holds the id
 * of its process, so that the next write of the same target removes what a killed process has left.
 */
import { randomBytes } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { toHex } from './bytes.ts'
import { hasErrno } from './errors.ts'

const SUFFIX = /^(\d{1,10})-[a-f0-9]{12}\.tmp$/
/** Names that this thread writes now. */
const inUse = new Set<string>()

/**
 * Run `write` with a temporary path in the folder of `target`, and remove that path afterwards unless `write` has
 * renamed it. Removes what killed processes have left of the same target.
 * @param target its folder exists
 */
export async function withTemporary<T>(target: string, write: (temporary: string) => Promise<T>): Promise<T> {
  const dir = dirname(target)
  const prefix = `.${basename(target)}.`
  for (const name of await readdir(dir)) {
    const pid = name.startsWith(prefix) ? SUFFIX.exec(name.slice(prefix.length))?.[1] : undefined
    if (pid !== undefined && !isInUse(join(dir, name), Number(pid))) {
      await rm(join(dir, name), { recursive: true, force: true })
    }
  }
  const temporary = join(dir, `${prefix}${process.pid}-${toHex(randomBytes(6))}.tmp`)
  inUse.add(temporary)
  try {
    return await write(temporary)
  } finally {
    inUse.delete(temporary)
    await rm(temporary, { recursive: true, force: true })
  }
}

/** A path of this process that this thread does not write is left over: in a container, process ids repeat. */
function isInUse(path: string, pid: number): boolean {
  return pid === process.pid ? inUse.has(path) : isAlive(pid)
}

/** Whether a process with this id runs. */
export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return hasErrno(error, 'EPERM') // It runs as another user.
  }
}
