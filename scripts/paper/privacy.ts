/**
 * `npx tsx scripts/paper/privacy.ts [--work DIR] [--steps N] [--batch B] [--rank R] [--epsilon E]...`: the table of what
 * differential privacy costs. An interrupted run resumes.
 */
import { parseArgs } from 'node:util'
import {
  type Bits,
  EPSILONS,
  keptGain,
  measureUtility,
  NONE,
  SETS,
  utilityWorkplace,
} from '../bench/privacy/private-experts.ts'

const { values } = parseArgs({
  options: {
    work: { type: 'string', default: '.bench/privacy' },
    steps: { type: 'string' },
    batch: { type: 'string' },
    rank: { type: 'string' },
    epsilon: { type: 'string', multiple: true, default: [...EPSILONS] },
  },
})
const number = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Number(text)
const line = (title: string, bits: Bits, ...notes: string[]): void =>
  console.log(
    `| ${[title, ...[...SETS, 'macro' as const].map((set) => bits[set].toFixed(3)), ...notes].join(' | ')} |`,
  )

const utility = await measureUtility(
  await utilityWorkplace(values.work),
  values.epsilon,
  {
    steps: number(values.steps),
    batch: number(values.batch),
    rank: number(values.rank),
    say: (text) => console.error(text),
  },
  new AbortController().signal,
)
console.log(`| composition by rows | ${SETS.join(' | ')} | macro | kept gain | experts |`)
console.log(`| --- |${' ---: |'.repeat(SETS.length + 2)} --- |`)
line('public model', utility.publicModel, '', 'none')
for (const [epsilon, { bits, experts, refused }] of utility.compositions) {
  const reasons = Object.entries(refused).map(([domain, reason]) => `${domain}: ${reason.split(':')[0]}`)
  line(
    epsilon === NONE ? 'no guarantee' : `epsilon ${epsilon}`,
    bits,
    `${Math.round(100 * keptGain(utility, epsilon))} %`,
    [String(experts), ...reasons].join('; '),
  )
}
