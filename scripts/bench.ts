/**
 * `npm run bench -- NAME [--json]`: measures this project and its peers on the same work in the same
 * run. With --json the last line is one JSON object and nothing else goes to standard output.
 */
import type { Bench } from './bench/bench.ts'
import { benchCompose } from './bench/compose.ts'
import { benchExchange } from './bench/exchange.ts'
import { benchInference } from './bench/inference.ts'
import { commit, machine } from './bench/machine.ts'
import { benchMemory } from './bench/memory.ts'
import { benchStartup } from './bench/startup.ts'
import { benchTraining } from './bench/training/bench.ts'
import { benchVerify } from './bench/verify.ts'

const BENCHES: Readonly<Record<string, (say: (line: string) => void) => Promise<Bench>>> = {
  training: benchTraining,
  inference: benchInference,
  exchange: benchExchange,
  compose: benchCompose,
  verify: benchVerify,
  startup: benchStartup,
  memory: benchMemory,
}

const [name = '', ...options] = process.argv.slice(2)
const bench = BENCHES[name]
if (bench === undefined || options.some((option) => option !== '--json')) {
  console.error(`usage: npm run bench -- NAME [--json]; NAME is one of ${Object.keys(BENCHES).join(', ')}`)
  process.exit(2)
}
const { json, lines } = await bench((line) => console.error(line))
const where = { machine: machine(), commit: commit() }
if (options.includes('--json')) console.log(JSON.stringify({ ...json, ...where }))
else for (const line of [...lines, `${where.machine}, commit ${where.commit}`]) console.log(line)
