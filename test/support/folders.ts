/** Folders that tests read: the model and the texts of this repository. And temporary ones that tests write to. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const SMALL_MODEL = fileURLToPath(new URL('../../models/small', import.meta.url))
export const EXAMPLES = fileURLToPath(new URL('../../examples', import.meta.url))

const folders: string[] = []

/** A temporary folder that `cleanUp` removes. */
export async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'flexmesh-test-'))
  folders.push(path)
  return path
}

/** Remove every folder of this test file. */
export async function cleanUp(): Promise<void> {
  await Promise.all(folders.splice(0).map((path) => rm(path, { recursive: true, force: true })))
}
