/** The command `evaluate`: bits per byte and routing of the composition on texts, each a domain of its own. */
import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { LEAST_BYTES } from '../jobs/text-size.ts'
import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { mapDiskErrors, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { nodeCommand } from './command.ts'
import { COLUMN, EXPERT_NAME, ROUTER } from './common-parameters.ts'
import type { DomainPath } from './domains.ts'
import { evaluationLines } from './evaluation-lines.ts'
import type { EvaluationReport, ScoreProgress } from './evaluation-report.ts'
import { givenPaths, type Invocation, option, type Parameter, whole } from './parameters.ts'
import { bar, duration } from './terminal.ts'

const KILOBYTE = 1000
const MAX_PATH = 4096
const MAX_DOMAIN_NAME = 64
/** Printable text: a terminal would obey control characters. */
const PRINTABLE = /^\P{C}+$/u
const PICTURE = 'picture'

const name = option('name', 'score the held-out text of this training', EXPERT_NAME)
const kilobytes = option(
  'kilobytes',
  'kilobytes to score of each --data domain, from its beginning (default 128)',
  whole(2, Math.floor(limit('evaluatedBytesAsked') / KILOBYTE)),
)

const data: Parameter<DomainPath[] | undefined> = {
  option: {
    name: 'data',
    type: 'string',
    multiple: true,
    help: 'file or folder to score, one domain each (default: public held-out text only)',
  },
  positionals: limit('evaluatedDomains'),
  read: async (invocation) => {
    const given = givenPaths(invocation, 'data')
    if (given.length === 0) return undefined
    const { domainsOf } = await import('./domains.ts')
    return domainsOf(given, invocation.values['name'] as string | undefined)
  },
  decode: (fields, key) =>
    fields.has(key) ? fields.list(key, limit('evaluatedDomains'), readDomain) : undefined,
}

function readDomain(item: unknown, title: string): DomainPath {
  const domain = new Fields(item, title)
  return { name: domain.text('name', MAX_DOMAIN_NAME, PRINTABLE), path: domain.text('path', MAX_PATH) }
}

const maxBytes: Parameter<number> = {
  ...kilobytes,
  read: (invocation) => {
    const given = kilobytes.read(invocation)
    return typeof given === 'number' ? given * KILOBYTE : undefined
  },
  decode: (fields, key) =>
    fields.has(key) ? fields.uint(key, limit('evaluatedBytesAsked'), LEAST_BYTES) : limit('evaluatedBytes'),
}

/** Also score the public held-out text, which is always scored if no other text is given. */
const publicText: Parameter<boolean> = {
  read: () => true,
  decode: (fields, key) => fields.has(key) && fields.bool(key),
}

/** Also score the composition without each expert. */
const optOut: Parameter<boolean> = {
  option: {
    name: 'opt-out',
    type: 'boolean',
    help: 'also score the composition without each expert (always with --json)',
  },
  read: ({ values }) => values['opt-out'] === true || values['json'] === true,
  decode: (fields, key) => !fields.has(key) || fields.bool(key),
}

export const EVALUATE = nodeCommand({
  name: 'evaluate',
  usage:
    'evaluate [--data [NAME=]PATH...] [--column NAME] [--name TRAINING] [--kilobytes N] [--router auto|solved|rows] [--opt-out] [--picture FILE.svg]',
  parameters: { data, column: COLUMN, name, maxBytes, router: ROUTER, publicText, optOut },
  clientOptions: [
    { name: PICTURE, type: 'string', help: 'draw the routing of every domain by layer as an SVG file' },
  ],
  async *run(node, request, signal): AsyncGenerator<ScoreProgress, EvaluationReport, void> {
    const { evaluateText } = await import('./evaluation.ts')
    return yield* evaluateText(node, request, signal)
  },
  words: evaluationLines,
  progress: ({ done, total, secondsLeft }) => ({
    text: `scoring ${bar(done, total)}  ${duration(secondsLeft)} left`,
    stays: false,
  }),
  async prepare(invocation) {
    const picture = await pictureFile(invocation)
    if (picture === undefined) return undefined
    return {
      use: async (report) => {
        const { routingPicture } = await import('./routing-picture.ts')
        await writeFileAtomic(picture, routingPicture(report), { mode: 0o644 })
        return ['', `routing picture written to ${picture}`]
      },
    }
  },
})

/** Where the picture will be written; checked before the work. @throws InputError `usage`, `not-found`. */
async function pictureFile({ values }: Invocation): Promise<string | undefined> {
  const given = values[PICTURE]
  if (typeof given !== 'string') return undefined
  const path = resolve(given)
  if (!path.toLowerCase().endsWith('.svg')) {
    throw new InputError('usage', `--picture: expected a file name that ends in .svg, got "${path}"`)
  }
  const folder = dirname(path)
  if (!(await mapDiskErrors(folder, () => stat(folder))).isDirectory())
    throw new InputError('not-found', `--picture: ${folder} is not a folder`)
  return path
}
