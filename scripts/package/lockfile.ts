/** Reads package-lock.json: every package that an installation contains, with its licence. Asks no registry. */
import { readFileSync } from 'node:fs'

export interface LockedPackage {
  readonly name: string
  readonly version: string
  /** SPDX expression, as the package states it. */
  readonly licence: string
  /** SHA-512 of the package's file, as npm checks it. */
  readonly integrity: string
  /** Installed only where it can be built or is wanted. */
  readonly isOptional: boolean
  /** Named in our package.json. */
  readonly isDirect: boolean
}

interface LockEntry {
  readonly version?: string
  readonly license?: string
  readonly integrity?: string
  readonly dev?: boolean
  readonly devOptional?: boolean
  readonly optional?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

/**
 * Packages that the product needs, without those of development, by name and version; each once.
 * @throws Error for a package without a licence or a digest.
 */
export function productPackages(path = 'package-lock.json'): LockedPackage[] {
  const { packages } = JSON.parse(readFileSync(path, 'utf8')) as { packages: Record<string, LockEntry> }
  const root = packages[''] ?? {}
  const direct = new Set(Object.keys({ ...root.dependencies, ...root.optionalDependencies }))
  const found = new Map<string, LockedPackage>()
  for (const [folder, entry] of Object.entries(packages)) {
    if (folder === '' || entry.dev === true) continue
    const name = folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length)
    const { version, license: licence, integrity } = entry
    if (version === undefined || licence === undefined || integrity === undefined) {
      throw new Error(`${path}: ${folder} has no version, no licence or no integrity`)
    }
    const isDirect = folder === `node_modules/${name}` && direct.has(name)
    const key = `${name}@${version}`
    const isOptional =
      (entry.optional === true || entry.devOptional === true) && found.get(key)?.isOptional !== false
    found.set(key, {
      name,
      version,
      licence,
      integrity,
      isOptional,
      isDirect: isDirect || found.get(key)?.isDirect === true,
    })
  }
  return [...found.values()].sort((a, b) =>
    a.name < b.name ? -1 : a.name > b.name ? 1 : a.version < b.version ? -1 : 1,
  )
}

/** Licences under which the product may contain a package: they ask for a notice and nothing more. */
const ALLOWED = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'CC0-1.0',
  'ISC',
  'MIT',
  'Unlicense',
])

/** Whether an SPDX expression leaves a choice of allowed licences. Knows AND, OR and brackets around the whole. */
export function isAllowed(licence: string): boolean {
  const bare = licence.replace(/^\((.*)\)$/, '$1')
  return bare.split(' OR ').some((choice) => choice.split(' AND ').every((one) => ALLOWED.has(one)))
}
