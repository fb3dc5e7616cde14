/**
 * Writes what follows from the table in layers.ts: the import rules in biome.json and the tree in README.md. With
 * --check it writes nothing and fails when either differs, when src/ has a folder or root file without a row, or
 * when an import of src/ is not allowed by the table. Usage: tsx scripts/make-layers.ts [--check]
 */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LAYERS, type Layer, PACKAGES, type PackageGroup } from './layers.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const TREE = /(<!-- tree: made by scripts\/make-layers.ts -->\n)[\s\S]*?(<!-- end of tree -->)/
const IMPORT = /(?:\bfrom|\bimport)\s*\(?\s*['"](\.{1,2}\/[^'"]+)['"]/g

/** Faults of the table itself, of the folders, and of imports. */
export async function faultsOf(src: string, layers: readonly Layer[]): Promise<string[]> {
  return [...tableFaults(layers), ...(await folderFaults(src, layers)), ...(await importFaults(src, layers))]
}

function tableFaults(layers: readonly Layer[]): string[] {
  const above = new Set<string>()
  const faults: string[] = []
  for (const { name, imports } of layers) {
    for (const one of imports) {
      if (!above.has(one.split('/')[0] as string)) faults.push(`${name}: ${one} is not a row above it`)
    }
    above.add(name)
  }
  return faults
}

async function folderFaults(src: string, layers: readonly Layer[]): Promise<string[]> {
  const entries = await readdir(src, { withFileTypes: true })
  const names = new Set(layers.map(({ name }) => name))
  const found = new Set(entries.map(({ name }) => name))
  return [
    ...entries
      .filter(({ name }) => !names.has(name))
      .map((entry) =>
        entry.isDirectory()
          ? `src/${entry.name}/ has no row in scripts/layers.ts`
          : `src/${entry.name}: the root of src/ holds ${rootFiles(layers)} only; move the file into a folder`,
      ),
    ...layers
      .filter(({ name }) => !found.has(name))
      .map(({ name }) => `scripts/layers.ts: src/${name} does not exist`),
  ]
}

function rootFiles(layers: readonly Layer[]): string {
  return layers
    .map(({ name }) => name)
    .filter((name) => name.endsWith('.ts'))
    .join(' and ')
}

async function importFaults(src: string, layers: readonly Layer[]): Promise<string[]> {
  const files = (await readdir(src, { recursive: true })).filter((file) => file.endsWith('.ts'))
  const faults: string[] = []
  for (const file of files.map((name) => name.replaceAll('\\', '/'))) {
    const layer = layers.find(({ name }) => name === file.split('/')[0])
    if (layer === undefined) continue
    const text = await readFile(join(src, file), 'utf8')
    for (const [, spec] of text.matchAll(IMPORT)) {
      const target = posix.normalize(posix.join(dirname(file), spec as string))
      const folder = target.split('/')[0] as string
      const allowed =
        folder === layer.name || layer.imports.some((one) => one === folder || `${one}.ts` === target)
      if (!allowed) faults.push(`src/${file} imports ${target}; ${layer.name} may import: ${listOf(layer)}`)
    }
  }
  return faults
}

function listOf({ imports }: Layer): string {
  return imports.length === 0 ? 'nothing of ours' : imports.join(', ')
}

/** The override of biome.json that holds one row's rules. */
function ruleOf(layer: Layer): unknown {
  const isFile = layer.name.endsWith('.ts')
  const up = isFile ? './' : '../'
  const allowed = layer.imports.map((one) =>
    one.endsWith('.ts') ? `!${up}${one}` : one.includes('/') ? `!${up}${one}.ts` : `!${up}${one}/**`,
  )
  const groups = (Object.keys(PACKAGES) as PackageGroup[]).filter(
    (group) => group !== 'keys' && !(layer.packages ?? []).includes(group),
  )
  const exceptions = (layer.packages ?? []).flatMap((group) =>
    group === 'keys' ? PACKAGES.keys.map((name) => `!${name}`) : [],
  )
  const patterns = [
    { group: [`${up}**`, ...allowed], message: `${layer.name} may import: ${listOf(layer)}` },
    ...groups.map((group) => ({
      group: [...PACKAGES[group], ...(group === 'libp2p' ? exceptions : [])],
      message: `${layer.name} may not import ${group} packages (scripts/layers.ts)`,
    })),
  ]
  return {
    includes: [isFile ? `src/${layer.name}` : `src/${layer.name}/**`],
    linter: {
      rules: {
        style: {
          noRestrictedImports: { level: 'error', options: { patterns } },
          ...(layer.webAssembly
            ? {}
            : {
                noRestrictedGlobals: {
                  level: 'error',
                  options: { deniedGlobals: { WebAssembly: 'only kernels/ uses WebAssembly' } },
                },
              }),
        },
      },
    },
  }
}

/** biome.json with the overrides of src/ made anew; others stay. */
export function withRules(biome: string, layers: readonly Layer[]): string {
  const json = JSON.parse(biome) as { overrides: { includes: string[] }[] }
  const names = new Set(layers.map(({ name }) => (name.endsWith('.ts') ? `src/${name}` : `src/${name}/**`)))
  const others = json.overrides.filter(({ includes }) => includes.length > 1 || !names.has(includes[0] ?? ''))
  return `${JSON.stringify({ ...json, overrides: [...layers.map(ruleOf), ...others] }, null, 2)}\n`
}

/** README.md with the tree of src/ made anew. */
export function withTree(readme: string, layers: readonly Layer[]): string {
  const rows = [...layers].reverse().map(({ name, holds, imports }) => {
    const label = name.endsWith('.ts') ? name : `${name}/`
    return `| \`${label}\` | ${holds} | ${imports.length === 0 ? 'nothing' : imports.join(', ')} |`
  })
  const lines = ['| | holds | may import |', '| --- | --- | --- |', ...rows]
  return readme.replace(TREE, (_, head, tail) => `${head}\n${lines.join('\n')}\n\n${tail}`)
}

/** Whether README.md shows another tree than the table, or no longer marks where it is. */
export function treeDiffers(readme: string, layers: readonly Layer[]): boolean {
  return !TREE.test(readme) || withTree(readme, layers) !== readme
}

/** The linter formats its own settings, so two spellings of one value are the same. */
function isSame(before: string, after: string): boolean {
  if (before === after) return true
  try {
    return JSON.stringify(JSON.parse(before)) === JSON.stringify(JSON.parse(after))
  } catch {
    return false
  }
}

async function main(check: boolean): Promise<number> {
  const faults = await faultsOf(join(root, 'src'), LAYERS)
  const readme = join(root, 'README.md')
  const biome = join(root, 'biome.json')
  const tree = await readFile(readme, 'utf8')
  const rules = await readFile(biome, 'utf8')
  const again = 'differs from scripts/layers.ts; run "npm run layers"'
  if (!TREE.test(tree)) faults.push('README.md: the marks around the tree are gone')
  else if (treeDiffers(tree, LAYERS)) {
    if (check) faults.push(`README.md: its tree ${again}`)
    else await writeFile(readme, withTree(tree, LAYERS))
  }
  if (!isSame(rules, withRules(rules, LAYERS))) {
    if (check) faults.push(`biome.json ${again}`)
    else await writeFile(biome, withRules(rules, LAYERS))
  }
  for (const fault of faults) console.error(fault)
  return faults.length === 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.includes('--check'))
}
