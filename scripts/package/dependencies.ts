/** `npm run dependencies`: writes docs/dependencies.md, the packages that an installation contains and their licences. */
import { writeFileSync } from 'node:fs'
import { isAllowed, type LockedPackage, productPackages } from './lockfile.ts'

export const DOCUMENT = 'docs/dependencies.md'

/** @throws Error that names packages whose licence the product may not contain. */
export function dependencyDocument(packages: readonly LockedPackage[]): string {
  const refused = packages.filter(({ licence }) => !isAllowed(licence))
  if (refused.length > 0) {
    throw new Error(
      `not allowed: ${refused.map(({ name, version, licence }) => `${name} ${version} (${licence})`).join(', ')}`,
    )
  }
  const rows = packages.map(
    ({ name, version, licence, isOptional, isDirect }) =>
      `| ${isDirect ? `**${name}**` : name} | ${version} | ${licence} | ${isOptional ? 'optional' : ''} |`,
  )
  const needed = packages.filter(({ isOptional }) => !isOptional).length
  return `# Dependencies

An installation contains ${needed} packages, and ${packages.length - needed} more with \`@tensorflow/tfjs-node-gpu\`, which is optional. The
${packages.filter(({ isDirect }) => isDirect).length} in bold are named in \`package.json\`, each at one version. \`npm-shrinkwrap.json\` in the package fixes the others, with their SHA-512, where npm installs
it from a registry or with \`npm ci\` in its folder. All licences ask for a notice and nothing more; a test refuses others.
The package contains a list for programs in the form of CycloneDX, \`dist/sbom.cdx.json\`. \`npm run dependencies\` writes this page.

| package | version | licence | |
| --- | --- | --- | --- |
${rows.join('\n')}
`
}

if (import.meta.filename === process.argv[1]) {
  writeFileSync(DOCUMENT, dependencyDocument(productPackages()))
}
