import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { DOCUMENT, dependencyDocument } from '../../scripts/package/dependencies.ts'
import { isAllowed, type LockedPackage, productPackages } from '../../scripts/package/lockfile.ts'

const MEBIBYTE = 2 ** 20

interface Packed {
  readonly size: number
  readonly unpackedSize: number
  readonly files: readonly { readonly path: string }[]
}

/** What npm would pack from this checkout as it stands. */
function packed(): Packed {
  const out = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { stdio: 'pipe' })
  const [one] = Object.values(JSON.parse(out.toString()) as Record<string, Packed>)
  if (one === undefined) throw new Error('npm packed nothing')
  return one
}

describe('the package', () => {
  it('contains what its users need, nothing else, and stays small', () => {
    const { files, size, unpackedSize } = packed()
    const paths = files.map(({ path }) => path)
    for (const needed of [
      'README.md',
      'LICENSE',
      'SECURITY.md',
      'CHANGELOG.md',
      'docs/operations.md',
      'models/small/model.safetensors',
      'ops/flexmesh.service',
      'protocols/expert-package/README.md',
      'scripts/verify-bundle.py',
      'src/main.js',
      'src/dashboard/page/app.js',
    ]) {
      expect(paths.map((path) => path.replace(/^dist\//, ''))).toContain(needed)
    }
    const folders = new Set(paths.map((path) => path.split('/')[0]))
    expect(
      [...folders].filter((name) =>
        ['test', 'src', 'node_modules', '.ci', 'screenshots'].includes(name ?? ''),
      ),
    ).toEqual([])
    expect(paths.filter((path) => /\.(?:ts|tsbuildinfo|pem|key|env)$|(?:^|\/)\./.test(path))).toEqual([])
    expect(size).toBeLessThan(10 * MEBIBYTE)
    expect(unpackedSize).toBeLessThan(25 * MEBIBYTE)
  })
})

describe('dependencies', () => {
  it('are fixed for those who install the package', () => {
    const { files, scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as {
      files: string[]
      scripts: Record<string, string>
    }
    expect(files).toContain('npm-shrinkwrap.json')
    expect(scripts['prepack']).toContain('scripts/package/prepack.ts')
  })

  it('are those of docs/dependencies.md, under licences that ask for a notice only', () => {
    expect(readFileSync(DOCUMENT, 'utf8')).toBe(dependencyDocument(productPackages()))
  })

  it.each(['MIT', '(MIT OR CC0-1.0)', 'GPL-3.0 OR ISC', '(BSD-3-Clause AND Apache-2.0)'])(
    'may be under %s',
    (licence) => {
      expect(isAllowed(licence)).toBe(true)
    },
  )

  it.each([
    'GPL-3.0',
    'MIT AND AGPL-3.0',
    'MPL-2.0',
    'SEE LICENSE IN file',
    '',
    'MIT OR',
    'UNLICENSED',
    'mit',
  ])('may not be under "%s"', (licence) => {
    const one: LockedPackage = {
      name: 'x',
      version: '1.0.0',
      licence,
      integrity: 'sha512-',
      isOptional: false,
      isDirect: false,
    }
    expect(() => dependencyDocument([one])).toThrow(/not allowed: x 1\.0\.0/)
  })
})
