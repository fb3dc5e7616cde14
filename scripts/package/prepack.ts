/**
 * Runs before npm packs the package. Fixes the versions of everything that it installs (npm reads package-lock.json
 * only in a checkout), and lists them in the form of CycloneDX.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, writeFileSync } from 'node:fs'

copyFileSync('package-lock.json', 'npm-shrinkwrap.json')
const list = execFileSync(
  'npm',
  ['sbom', '--package-lock-only', '--omit=dev', '--sbom-format=cyclonedx', '--sbom-type=application'],
  { maxBuffer: 64 * 2 ** 20 },
)
writeFileSync('dist/sbom.cdx.json', list)
