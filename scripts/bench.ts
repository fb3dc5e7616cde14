/**
 * `npm run bench -- NAME [--json]`: measures this project, and its peers on the same work, in one run. With --json,
 * standard output holds one JSON object as its last line and nothing else. Other options are passed to the benchmark;
 * only `attacks`, `disk`, `fuzz`, `governance`, `load`, `paper` and `sizes` have any.
 */
import { FlexMeshError } from '../src/lib/errors.ts'
import { benchAttacks } from './bench/attacks/bench.ts'
import type { Bench } from './bench/benchmark.ts'
import { benchCompose } from './bench/compose/bench.ts'
import { benchDisk } from './bench/disk/bench.ts'
import { benchExchange } from './bench/exchange/bench.ts'
import { benchFuzz } from './bench/fuzz/bench.ts'
import { benchGovernance } from './bench/governance/bench.ts'
import { benchInference } from './bench/inference/bench.ts'
import { benchLoad } from './bench/load/bench.ts'
import { commit, machine } from './bench/machine.ts'
import { benchMemory } from './bench/memory/bench.ts'
import { benchPrivacy } from './bench/privacy/bench.ts'
import { benchSizes } from './bench/sizes/bench.ts'
import { benchStartup } from './bench/startup/bench.ts'
import { benchTraining } from './bench/training/bench.ts'
import { benchVerify } from './bench/verify/bench.ts'
import { benchPaper } from './paper/bench.ts'

const BENCHES: Readonly<
  Record<string, (say: (line: string) => void, options: readonly string[]) => Promise<Bench>>
> = {
  training: benchTraining,
  inference: benchInference,
  exchange: benchExchange,
  compose: benchCompose,
  verify: benchVerify,
  startup: benchStartup,
  memory: benchMemory,
  load: benchLoad,
  attacks: benchAttacks,
  disk: benchDisk,
  privacy: benchPrivacy,
  governance: benchGovernance,
  fuzz: benchFuzz,
  sizes: benchSizes,
  paper: benchPaper,
}
/** Benchmarks that take options of their own. */
const WITH_OPTIONS = ['attacks', 'disk', 'fuzz', 'governance', 'load', 'paper', 'sizes']

const [name = '', ...given] = process.argv.slice(2)
const bench = BENCHES[name]
const json = given.includes('--json')
const options = given.filter((option) => option !== '--json')
if (bench === undefined || (!WITH_OPTIONS.includes(name) && options.length > 0)) {
  console.error(`usage: npm run bench -- NAME [--json]; NAME is one of ${Object.keys(BENCHES).join(', ')}`)
  process.exit(2)
}
try {
  const { json: members, lines } = await bench((line) => console.error(line), options)
  const where = { machine: machine(), commit: commit() }
  if (json) console.log(JSON.stringify({ ...members, ...where }))
  else for (const line of [...lines, `${where.machine}, commit ${where.commit}`]) console.log(line)
} catch (error) {
  if (!(error instanceof FlexMeshError)) throw error
  console.error(`bench: ${error.message}`)
  process.exitCode = 1
}
