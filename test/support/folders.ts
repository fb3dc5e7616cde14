/** Folders that tests read: the model and the texts of this repository. And temporary ones that tests write to. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
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

/** The files in some subfolders of a folder, by their paths relative to it. */
export async function readFiles(
  dir: string,
  subfolders: readonly string[],
): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>()
  for (const subfolder of subfolders) {
    const entries = await readdir(join(dir, subfolder), { recursive: true, withFileTypes: true })
    for (const entry of entries.filter((found) => found.isFile())) {
      const path = join(entry.parentPath, entry.name)
      files.set(relative(dir, path), await readFile(path))
    }
  }
  return files
}

/** Write files, by their paths relative to a folder. */
export async function writeFiles(dir: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  for (const [name, bytes] of files) {
    const path = join(dir, name)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await writeFile(path, bytes, { mode: 0o600 })
  }
}
