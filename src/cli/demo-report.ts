/** What the demo measures, and how it prints that. Asks nodes through their control sockets only. */
import { EVALUATE } from '../commands/evaluate.ts'
import { type EvaluationReport, PUBLIC_TEXT } from '../commands/evaluation-report.ts'
import { GENERATE, type GenerateResult } from '../commands/generate.ts'
import { bits, table } from '../commands/terminal.ts'
import { call, type Institution } from './demo-process.ts'
import type { DemoWithdrawal } from './demo-withdrawal.ts'

type Scores = Pick<EvaluationReport, 'public' | 'composed' | 'alone' | 'without'>

const PROMPT =
  "Article L1234-5\n\nLorsque le salarié n'exécute pas le préavis, il a droit, sauf s'il a commis une faute grave, à une indemnité"

/** What `flexmesh demo --json` prints, except for the time it took. */
export interface Report {
  readonly institutions: { name: string; peerId: string; expert: string; domain: string }[]
  readonly bitsPerByte: Record<string, Record<string, number>>
  readonly macro: { public: number; bestExpert: number; composed: number }
  readonly optOut: { institution: string; before: Record<string, number>; after: Record<string, number> }
  readonly withdrawal: DemoWithdrawal
  readonly refused: { code: string }[]
  readonly answer: Pick<GenerateResult, 'text' | 'experts'>
}

/** Score every domain with every model, and ask for one answer. */
export async function measure(
  all: readonly Institution[],
  signal: AbortSignal,
): Promise<Omit<Report, 'withdrawal' | 'refused'>> {
  const [first] = all as [Institution]
  const scoresOf = async (
    domain: string,
    institution: Institution,
    request: { readonly name?: string },
  ): Promise<[string, Scores]> => [domain, await call(institution, EVALUATE, request, signal)]
  const scores = await Promise.all([
    ...all.map((institution) => scoresOf(institution.domain, institution, { name: institution.expert })),
    scoresOf(PUBLIC_TEXT, first, {}),
  ])
  const answer = await call(
    first,
    GENERATE,
    { prompt: PROMPT, maxTokens: 60, temperatureMilli: 300, seed: 7 },
    signal,
  )
  const mean = (pick: (score: Scores) => number): number =>
    scores.reduce((sum, [, score]) => sum + pick(score), 0) / scores.length
  const leaver = all[1] as Institution
  return {
    institutions: all.map(({ name, peerId, expert, domain }) => ({ name, peerId, expert, domain })),
    bitsPerByte: Object.fromEntries(
      scores.map(([domain, s]) => [domain, { public: s.public, ...s.alone, composed: s.composed }]),
    ),
    macro: {
      public: mean((s) => s.public),
      bestExpert: Math.min(...all.map(({ name }) => mean((s) => s.alone[name] as number))),
      composed: mean((s) => s.composed),
    },
    optOut: {
      institution: leaver.name,
      before: Object.fromEntries(scores.map(([domain, s]) => [domain, s.composed])),
      after: Object.fromEntries(scores.map(([domain, s]) => [domain, s.without?.[leaver.name] as number])),
    },
    answer: { text: answer.text, experts: answer.experts },
  }
}

/** The report for people. */
export function reportLines(report: Report): string[] {
  const domains = Object.keys(report.bitsPerByte)
  const rows = ['public', ...report.institutions.map(({ name }) => name), 'composed']
  const label = (row: string): string =>
    row === 'public' ? 'public model' : row === 'composed' ? 'composition' : `public + ${row}`
  const mean = (row: string): number =>
    domains.reduce((sum, d) => sum + (report.bitsPerByte[d]?.[row] as number), 0) / domains.length
  const { optOut, answer } = report
  return [
    '',
    'bits per byte on held-out text (lower is better)',
    ...table([
      ['model', ...domains, 'macro'],
      ...rows.map((row) => [
        label(row),
        ...domains.map((d) => bits(report.bitsPerByte[d]?.[row])),
        bits(mean(row)),
      ]),
    ]),
    '',
    `without ${optOut.institution}:`,
    ...table([
      ['', ...domains],
      ['before', ...domains.map((d) => bits(optOut.before[d]))],
      ['after', ...domains.map((d) => bits(optOut.after[d]))],
    ]),
    '',
    'a sample answer',
    `  ${PROMPT.replaceAll('\n', '\n  ')}${answer.text.replaceAll('\n', '\n  ')}`,
    `  carried by: ${answer.experts.map(({ institution, share }) => `${institution} ${(100 * share).toFixed(0)} %`).join(', ')}`,
    '',
  ]
}
