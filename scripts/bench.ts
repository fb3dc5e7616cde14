/**
 * `npm run bench -- NAME [--json]`: measures this project and its peers on the same work in the same
 * run. With --json the last line is one JSON object and nothing else goes to standard output.
 */
import { commit, machine } from './bench/machine.ts'
import { benchTraining } from './bench/training.ts'

const BENCHES = { training: benchTraining }

const [name = '', ...options] = process.argv.slice(2)
if (!(name in BENCHES) || options.some((option) => option !== '--json')) {
  console.error(`usage: npm run bench -- NAME [--json]; NAME is one of ${Object.keys(BENCHES).join(', ')}`)
  process.exit(2)
}
const json = options.includes('--json')
const result = await BENCHES[name as keyof typeof BENCHES]((line) => console.error(line))
const report = { ...result, machine: machine(), commit: commit() }
if (json) console.log(JSON.stringify(report))
else {
  for (const [who, speed] of Object.entries(result.tokensPerSecond)) console.log(`${who}: ${speed} tokens/s`)
  for (const [size, ratios] of Object.entries(result.ratios)) {
    for (const [peer, ratio] of Object.entries(ratios)) console.log(`${size}: ${ratio} times ${peer}`)
  }
  for (const missing of result.notMeasured) console.log(`not measured: ${missing}`)
  console.log(`${report.machine}, commit ${report.commit}`)
}
