/**
 * Counts how many attacks on audit bundles the two verifiers find: 10,000 edits, 1,000 truncations, 100 forks.
 * Usage: tsx scripts/parity/audit-bundle.ts [EDITS [TRUNCATIONS [FORKS]]]
 * FLEXMESH_PYTHON names the Python (default: python3).
 */
import { spawnSync } from 'node:child_process'
import { type Attacked, attackBundles, type Counts, refusesHere, withPython } from './bundle-attacks.ts'

const [edits = 10_000, truncations = 1_000, forks = 100] = process.argv.slice(2).map(Number)
const counts: Counts = { edits, truncations, forks }
const python = process.env['FLEXMESH_PYTHON'] ?? 'python3'

function report(verifier: string, result: Attacked): void {
  console.log(JSON.stringify({ verifier, ...result }))
  const { found, foundTruncations, foundForks } = result
  if (found < edits || foundTruncations < truncations || foundForks < forks) process.exitCode = 1
}

const missed =
  (verifier: string) =>
  (kind: string, seed: number): void =>
    console.error(`${verifier} has accepted one of the ${kind}, seed ${seed}`)

report('typescript', await attackBundles(counts, refusesHere, missed('typescript')))
if (spawnSync(python, ['--version']).status === 0) {
  report('python', await withPython(python, (refuses) => attackBundles(counts, refuses, missed('python'))))
} else {
  console.log(`python: not run, because ${python} does not start`)
}
