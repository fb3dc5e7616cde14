/**
 * The file that says that this node has applied for membership and waits for a founder's approval. It informs people
 * only: whether the node becomes a member is decided elsewhere.
 */
import { rm } from 'node:fs/promises'
import { fromUtf8 } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { mapDiskErrors, pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import type { HomePaths } from '../store/home.ts'

const MAX_BYTES = 4096
const MAX_NAME = 100

export async function saveApplication({ application }: HomePaths, consortium: string): Promise<void> {
  await writeFileAtomic(application, JSON.stringify({ consortium }))
}

/** The name of the consortium; undefined if the node does not wait for an approval, or the file cannot be read. */
export async function loadApplication({ application }: HomePaths): Promise<string | undefined> {
  if (!(await pathExists(application))) return undefined
  try {
    const bytes = await readFileBounded(application, MAX_BYTES)
    return new Fields(JSON.parse(fromUtf8(bytes)), 'application').text('consortium', MAX_NAME)
  } catch (error) {
    if (error instanceof FlexMeshError || error instanceof SyntaxError) return undefined
    throw error
  }
}

export async function removeApplication({ application }: HomePaths): Promise<void> {
  await mapDiskErrors(application, () => rm(application, { force: true }))
}
