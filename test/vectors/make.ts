/**
 * Writes the test vectors of every protocol, their table in its specification and their number in
 * protocols/README.md. With --check it writes nothing and fails when a file would change.
 * Usage: tsx test/vectors/make.ts [--check]
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SUITES } from './suites.ts'

const protocols = fileURLToPath(new URL('../../protocols', import.meta.url))
const check = process.argv.includes('--check')
let changed = 0

async function put(path: string, text: string): Promise<void> {
  const before = await readFile(path, 'utf8').catch(() => undefined)
  if (before === text) return
  changed++
  console.log(`${check ? 'differs' : 'written'}: ${path}`)
  if (!check) await writeFile(path, text)
}

for (const [protocol, suite] of Object.entries(SUITES)) {
  const vectors = suite.makeVectors()
  const folder = join(protocols, protocol, 'vectors')
  await mkdir(folder, { recursive: true })
  for (const [file, vector] of Object.entries(vectors))
    await put(join(folder, file), `${JSON.stringify(vector, null, 2)}\n`)
  for (const file of await readdir(folder)) {
    if (file in vectors) continue
    changed++
    console.log(`superfluous: ${join(folder, file)}`)
    if (!check) await rm(join(folder, file))
  }
  const readme = join(protocols, protocol, 'README.md')
  const rows = Object.values(vectors).map(
    ({ name, expect, comment }) => `| \`${name}\` | ${expect} | ${comment} |`,
  )
  const table = ['| vector | expect | scenario |', '| --- | --- | --- |', ...rows].join('\n')
  const text = await readFile(readme, 'utf8')
  await put(readme, text.replace(/\| vector \| expect \| scenario \|\n(?:\|.*\n)*/, `${table}\n`))
  const overview = join(protocols, 'README.md')
  const row = new RegExp(`^(\\| \\[${protocol}\\].* \\| )\\d+( \\| [^|]* \\|)$`, 'm')
  const count = Object.keys(vectors).length
  await put(overview, (await readFile(overview, 'utf8')).replace(row, `$1${count}$2`))
}
console.log(changed === 0 ? 'all vectors are up to date' : `${changed} files ${check ? 'differ' : 'changed'}`)
if (check && changed > 0) process.exitCode = 1
