import { describe, expect, it } from 'vitest'
import { tinyManifest } from '../support/packages.ts'
import { specification } from '../support/specifications.ts'

describe('the specification of expert-package', () => {
  it('describes every member of a manifest, a head and a withdrawal', () => {
    const readme = specification('expert-package')
    const manifest = tinyManifest('x')
    const members = [
      ...Object.keys(manifest),
      ...Object.keys(manifest.publicModel),
      ...Object.keys(manifest.expert),
      ...Object.keys(manifest.files[0]),
      ...Object.keys(manifest.training),
      ...Object.keys(manifest.eval[0] ?? {}),
      'last',
      'manifests',
      'withdrawals',
      'reason',
    ]
    for (const member of members) expect(readme).toContain(`\`${member}\``)
  })
})
