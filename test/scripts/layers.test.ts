/** The table of the layout: what it refuses, and that README and the linter follow from it. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { LAYERS, type Layer } from '../../scripts/layers.ts'
import { faultsOf, treeDiffers, withRules, withTree } from '../../scripts/make-layers.ts'

const TABLE: readonly Layer[] = [
  { name: 'lib', imports: [], holds: 'bytes' },
  { name: 'model', imports: ['lib'], holds: 'what is computed' },
  { name: 'checkpoint', imports: ['lib', 'model/params'], holds: 'files of weights' },
  { name: 'main.ts', imports: ['lib', 'model', 'checkpoint'], holds: 'process entry' },
]

const folders: string[] = []
afterEach(async () => {
  await Promise.all(folders.splice(0).map((path) => rm(path, { recursive: true })))
})

/** A src/ with a file in every row of TABLE, and with `changes`. */
async function src(changes: Readonly<Record<string, string>> = {}): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'layers-'))
  folders.push(root)
  const files = {
    'lib/bytes.ts': '',
    'model/params.ts': "import { bytes } from '../lib/bytes.ts'\n",
    'model/config.ts': '',
    'checkpoint/file.ts': "import type { Params } from '../model/params.ts'\n",
    'main.ts': "import './model/params.ts'\nawait import('./checkpoint/file.ts')\n",
    ...changes,
  }
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(root, path, '..'), { recursive: true })
    await writeFile(join(root, path), text)
  }
  return root
}

describe('the layout', () => {
  it('has no fault when every import is in the table', async () => {
    expect(await faultsOf(await src(), TABLE)).toEqual([])
  })

  it.each([
    ['a file at the root', { 'loose.ts': '' }, /src\/loose\.ts: the root of src\/ holds main\.ts only/],
    ['a folder without a row', { 'extra/a.ts': '' }, /src\/extra\/ has no row/],
    [
      'an import that runs up',
      { 'lib/bytes.ts': "import '../model/params.ts'\n" },
      /src\/lib\/bytes\.ts imports model\/params\.ts; lib may import: nothing of ours/,
    ],
    [
      'an import of a file beside the allowed one',
      { 'checkpoint/file.ts': "import '../model/config.ts'\n" },
      /src\/checkpoint\/file\.ts imports model\/config\.ts/,
    ],
    [
      'an import at run time that is not allowed',
      { 'lib/bytes.ts': "await import('../main.ts')\n" },
      /src\/lib\/bytes\.ts imports main\.ts/,
    ],
    [
      'an export from a row that is not allowed',
      { 'lib/bytes.ts': "export { a } from '../model/params.ts'\n" },
      /src\/lib\/bytes\.ts imports model\/params\.ts/,
    ],
  ])('refuses %s', async (_, changes, message) => {
    const faults = await faultsOf(await src(changes), TABLE)
    expect(faults).toHaveLength(1)
    expect(faults[0]).toMatch(message)
  })

  it('refuses a table in which a row imports one that stands above it', async () => {
    const upward: Layer[] = [{ name: 'lib', imports: ['model'], holds: 'bytes' }, ...TABLE.slice(1)]
    expect(await faultsOf(await src(), upward)).toEqual(['lib: model is not a row above it'])
  })
})

describe('this repository', () => {
  const root = new URL('../../', import.meta.url)

  it('has at most 29 folders in src/, and main.ts and pipeline.ts at its root', () => {
    const names = LAYERS.map(({ name }) => name)
    expect(names.filter((name) => !name.endsWith('.ts')).length).toBeLessThanOrEqual(29)
    expect(names.filter((name) => name.endsWith('.ts')).sort()).toEqual(['main.ts', 'pipeline.ts'])
  })

  it('shows the tree of the table in README.md, and would notice another one', async () => {
    const readme = await readFile(new URL('README.md', root), 'utf8')
    expect(treeDiffers(readme, LAYERS)).toBe(false)
    expect(treeDiffers(readme, LAYERS.slice(1))).toBe(true)
    expect(treeDiffers(readme.replaceAll('tree: made by', 'tree'), LAYERS)).toBe(true)
    expect(withTree(readme, LAYERS)).toBe(readme)
  })

  it('has the linter rules of the table, and would notice others', async () => {
    const biome = await readFile(new URL('biome.json', root), 'utf8')
    const parsed = (text: string): unknown => JSON.parse(text)
    expect(parsed(withRules(biome, LAYERS))).toEqual(parsed(biome))
    expect(parsed(withRules(biome, LAYERS.slice(1)))).not.toEqual(parsed(biome))
  })
})
