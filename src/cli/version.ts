/** The version of this program, from the package.json that it was installed with. */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pathExists } from '../lib/files.ts'

/** As in `0.3.0`; `unknown` if the program runs outside of its package. */
export async function packageVersion(): Promise<string> {
  for (let dir = dirname(fileURLToPath(import.meta.url)); dir !== dirname(dir); dir = dirname(dir)) {
    const path = join(dir, 'package.json')
    if (!(await pathExists(path))) continue
    const { version } = JSON.parse(await readFile(path, 'utf8')) as { version?: unknown }
    return typeof version === 'string' ? version : 'unknown'
  }
  return 'unknown'
}
