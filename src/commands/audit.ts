/**
 * The command `audit`: attacks a trained expert as others could before it is published, or an expert of another member
 * with text of this node.
 */

import { resolve } from 'node:path'
import type { AttackResult } from '../jobs/attack-expert.ts'
import { ownCommand } from '../lib/command-line.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import type { AuditProgress } from '../owner/audit-training.ts'
import { extractionLines, type KeptReport, membershipLines, reportLines } from '../privacy/audit-report.ts'
import { nodeCommand } from './command.ts'
import { COLUMN, EXPERT_NAME } from './common-parameters.ts'
import { option, optionalPositional, type Parameter, text, usage } from './parameters.ts'
import { auditLine } from './publish-progress.ts'
import { type Timed, withTimeLeft } from './time-left.ts'

const MAX_PATHS = 64
const AGAINST = 'against'
const EITHER = `name a training, as in ${ownCommand('audit', 'NAME')}, or an expert in use with --against and text with --data`

/** The name of a training; with `--against`, positional arguments are paths. */
const training = optionalPositional(EXPERT_NAME)
const name: Parameter<string | undefined> = {
  ...training,
  read: (invocation) => (invocation.values[AGAINST] === undefined ? training.read(invocation) : undefined),
}

/** Paths that are given with an option; those of `data` also after the options. */
function files(title: string, help: string, positionals: number): Parameter<string[]> {
  return {
    option: { name: title, type: 'string', multiple: true, help },
    positionals,
    read: ({ values, positionals: rest }) => {
      const given = values[title]
      const loose = positionals > 0 && values[AGAINST] !== undefined ? rest : []
      const all = [...(Array.isArray(given) ? given : []), ...loose]
      if (all.length > MAX_PATHS) {
        throw usage(`--${title}: expected at most ${MAX_PATHS} paths, got ${all.length}`)
      }
      return all.length === 0 ? undefined : all.map((one) => resolve(one))
    },
    decode: (fields, key) =>
      fields.has(key)
        ? fields.list(key, MAX_PATHS, (item, of) => {
            if (typeof item === 'string' && item !== '') return item
            throw new FormatError('bad-field', `${of}: expected a path`)
          })
        : [],
  }
}

/** What `audit --against` found. */
export interface AgainstReport extends AttackResult {
  readonly expert: string
  readonly institution: string
  /** Whether the text on which the expert was not trained is public text, because none was given. */
  readonly isReferencePublic: boolean
}

export const AUDIT = nodeCommand({
  name: 'audit',
  usage: 'audit NAME | audit --against EXPERT --data PATH... [--reference PATH]... [--column NAME]',
  parameters: {
    name,
    against: option(
      AGAINST,
      'attack an expert in use instead: its name, its institution or its package; with text of your own',
      text(200),
    ),
    data: files('data', 'with --against: text that the expert may have been trained on', MAX_PATHS),
    reference: files(
      'reference',
      'with --against: text of the same kind on which it was certainly not trained (default: public text)',
      0,
    ),
    column: COLUMN,
  },
  async *run(
    node,
    { name: trained, against, data, reference, column },
    signal,
  ): AsyncGenerator<Timed<AuditProgress>, KeptReport | AgainstReport, void> {
    if (against === undefined) {
      if (trained === undefined || data.length + reference.length > 0) throw usage(`audit: ${EITHER}`)
      return yield* withTimeLeft(node.trainings.audit({ name: trained }, signal))
    }
    if (data.length === 0) throw usage(`audit: ${EITHER}`)
    const { isNamed } = await import('../composition/selection.ts')
    const found = node.composer.served.composition.experts.filter((expert) => isNamed(expert, against))
    const [expert] = found
    if (expert === undefined || found.length > 1) {
      throw new InputError(
        'not-found',
        `"${against}" names ${found.length} experts in use; ${ownCommand('experts')} lists them with their ids`,
      )
    }
    const manifest = await node.accepted.manifestOf(expert.id)
    await node.trainings.prepareReplay(signal)
    const request = { manifest, data, reference, column }
    const result = yield* withTimeLeft(node.activities.run('attack', request, signal))
    const { name: called, institution } = expert
    return { expert: called, institution, isReferencePublic: reference.length === 0, ...result }
  },
  progress: (event) => ({ text: auditLine(event), stays: false }),
  words: (result) =>
    'report' in result ? [...reportLines(result.report), `report ${result.digest}`] : againstLines(result),
})

function againstLines({
  expert,
  institution,
  isReferencePublic,
  extraction,
  membership,
}: AgainstReport): string[] {
  const names = { attacked: 'your text', other: isReferencePublic ? 'public text' : 'reference text' }
  return [
    `${institution}/${expert}:`,
    ...extractionLines(extraction, names),
    ...membershipLines(membership, names),
    ...(isReferencePublic
      ? [
          'an expert predicts text of its subject better than public text, whether it was trained on it or not; give text of the same kind with --reference to tell the two apart',
        ]
      : []),
  ]
}
