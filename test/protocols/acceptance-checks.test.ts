/** The checks of acceptance are those of the specification, in its order. */
import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import {
  ENVELOPE_CHECK,
  FILE_CHECK,
  MANIFEST_CHECKS,
  MEASUREMENT_CHECKS,
  TENSORS_CHECK,
  WEIGHT_CHECKS,
} from '../../src/acceptance/accept.ts'

it('the table of acceptance in the specification lists every check in the order in which it runs', () => {
  const readme = readFileSync(new URL('../../protocols/expert-package/README.md', import.meta.url), 'utf8')
  const section = readme.split('## Acceptance')[1]?.split('\n## ')[0] ?? ''
  const listed = [...section.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, id]) => id)
  const ids = (checks: readonly { readonly id: string }[]): string[] => checks.map(({ id }) => id)
  expect(listed).toEqual([
    ENVELOPE_CHECK,
    ...ids(MANIFEST_CHECKS),
    FILE_CHECK,
    TENSORS_CHECK,
    ...ids(WEIGHT_CHECKS),
    ...ids(MEASUREMENT_CHECKS),
  ])
})
