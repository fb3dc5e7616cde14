/** What the demo measures and how it shows it. Knows nodes through their control sockets only. */
import { PUBLIC_TEXT } from '../commands/evaluate.ts'
import { call, type Institution } from './demo-process.ts'
import { table } from './output.ts'

const PROMPT =
  "Article L1234-5\n\nLorsque le salarié n'exécute pas le préavis, il a droit, sauf s'il a commis une faute grave, à une indemnité"

interface Scores {
  readonly public: number
  readonly composed: number
  readonly alone: Record<string, number>
  readonly without: Record<string, number>
}

export interface Report {
  readonly institutions: { name: string; peerId: string; expert: string; domain: string }[]
  readonly bitsPerByte: Record<string, Record<string, number>>
  readonly macro: { public: number; bestExpert: number; composed: number }
  readonly optOut: { institution: string; before: Record<string, number>; after: Record<string, number> }
  readonly refused: { code: string }[]
  readonly answer: { text: string; experts: { institution: string; share: number }[] }
}

export async function measure(
  all: readonly Institution[],
  refused: { code: string }[],
  signal: AbortSignal,
): Promise<Report> {
  const [first] = all as [Institution]
  const own = await Promise.all(
    all.map(async (institution): Promise<[string, Scores]> => {
      const request = { name: institution.expert }
      return [institution.domain, await call<Scores>(institution, 'evaluate', request, signal)]
    }),
  )
  const shared = await call<Scores>(first, 'evaluate', {}, signal)
  const scores: [string, Scores][] = [...own, [PUBLIC_TEXT, shared]]
  const answer = await call<Report['answer']>(
    first,
    'generate',
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
      after: Object.fromEntries(scores.map(([domain, s]) => [domain, s.without[leaver.name] as number])),
    },
    refused,
    answer: { text: answer.text, experts: answer.experts },
  }
}

export function show(report: Report): string[] {
  const domains = Object.keys(report.bitsPerByte)
  const rows = ['public', ...report.institutions.map(({ name }) => name), 'composed']
  const label = (row: string): string =>
    row === 'public' ? 'public model' : row === 'composed' ? 'composition' : `public + ${row}`
  const mean = (row: string): number =>
    domains.reduce((sum, d) => sum + (report.bitsPerByte[d]?.[row] as number), 0) / domains.length
  const { optOut, answer } = report
  const fixed = (value: number | undefined): string => (value ?? Number.NaN).toFixed(3)
  return [
    '',
    'bits per byte on held-out text (lower is better)',
    ...table([
      ['model', ...domains, 'macro'],
      ...rows.map((row) => [
        label(row),
        ...domains.map((d) => fixed(report.bitsPerByte[d]?.[row])),
        fixed(mean(row)),
      ]),
    ]),
    '',
    `without ${optOut.institution}:`,
    ...table([
      ['', ...domains],
      ['before', ...domains.map((d) => fixed(optOut.before[d]))],
      ['after', ...domains.map((d) => fixed(optOut.after[d]))],
    ]),
    '',
    'a sample answer',
    `  ${PROMPT.replaceAll('\n', '\n  ')}${answer.text.replaceAll('\n', '\n  ')}`,
    `  carried by: ${answer.experts.map(({ institution, share }) => `${institution} ${(100 * share).toFixed(0)} %`).join(', ')}`,
    '',
  ]
}
