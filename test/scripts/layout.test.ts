import { existsSync, readFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))
const scripts = join(root, 'scripts')

/** TypeScript files of scripts/ by path from the root, with their text. */
async function sources(): Promise<Map<string, string>> {
  const names = await readdir(scripts, { recursive: true })
  const paths = names.filter((name) => name.endsWith('.ts') && !name.includes('node_modules'))
  return new Map(
    paths.map((path) => [join('scripts', path), readFileSync(join(scripts, path), 'utf8')] as const),
  )
}

/** Files that each file imports, types included, by path from the root. */
function importsOf(files: ReadonlyMap<string, string>): Map<string, string[]> {
  return new Map(
    [...files].map(([path, text]) => [
      path,
      [...text.matchAll(/\b(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g)].map(([, target]) =>
        join(dirname(path), target as string),
      ),
    ]),
  )
}

/** A file that imports itself through others, if there is one. */
function circle(imports: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]): string[] | undefined => {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path]
    if (done.has(path)) return undefined
    for (const next of imports.get(path) ?? []) {
      const found = visit(next, [...trail, path])
      if (found !== undefined) return found
    }
    done.add(path)
    return undefined
  }
  for (const path of imports.keys()) {
    const found = visit(path, [])
    if (found !== undefined) return found
  }
  return undefined
}

describe('the files of scripts/', () => {
  it('import each other without a circle, and nothing of test/ but what a few of them share with the tests', async () => {
    const imports = importsOf(await sources())
    expect(imports.size).toBeGreaterThan(90)
    expect(circle(imports)).toBe(undefined)
    const ofTests = [...imports].flatMap(([path, targets]) =>
      targets.filter((target) => target.startsWith('test/')).map((target) => [path, target] as const),
    )
    const allowed = [
      ['scripts/bench/attacks/', 'test/support/hostile/'],
      // Nodes and cases that the tests use in smaller numbers.
      ['scripts/bench/governance/', 'test/support/'],
      // Every decoder with the inputs that it accepts.
      ['scripts/bench/fuzz/', 'test/vectors/'],
      ['scripts/bench/fuzz/', 'test/support/packages.ts'],
      ['scripts/dashboard/', 'test/support/inference-api.ts'],
      ['scripts/parity/bundle-attacks.ts', 'test/support/audited.ts'],
    ] as const
    const others = ofTests.filter(
      ([path, target]) => !allowed.some(([from, to]) => path.startsWith(from) && target.startsWith(to)),
    )
    expect(others).toEqual([])
  })

  it('let the paper use the benchmarks, and the benchmarks not the paper', async () => {
    for (const [path, targets] of importsOf(await sources())) {
      if (!path.startsWith('scripts/bench/')) continue
      expect([path, targets.filter((target) => target.startsWith('scripts/paper/'))]).toEqual([path, []])
    }
  })

  it('name files by relative paths that exist', async () => {
    const named = /(?:new URL\(\s*'([^'$]+)',\s*import\.meta\.url|\b(?:path|script)\(\s*'([^'$]+)')/g
    let count = 0
    for (const [path, text] of await sources()) {
      for (const [, fromUrl, fromCall] of text.matchAll(named)) {
        const target = (fromUrl ?? fromCall) as string
        if (target.includes('node_modules')) continue
        const file = join(root, dirname(path), target)
        expect([path, target, existsSync(file) || existsSync(`${file}.ts`)]).toEqual([path, target, true])
        count++
      }
    }
    expect(count).toBeGreaterThan(25)
  })
})
