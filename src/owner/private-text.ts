/**
 * The text of a differentially private training by units, and the parameters that its folder keeps, so that a training
 * that is continued spends what it was begun with. Knows nothing about gradients.
 */
import { join } from 'node:path'
import type { Corpus } from '../data/corpus.ts'
import { readUnit, readUnits, type Unit, unitTokens } from '../data/unit-index.ts'
import { fromUtf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { mulberry32 } from '../lib/random.ts'
import type { DpParameters, PrivacyUnit } from '../privacy/mechanism.ts'
import type { UnitWindows } from '../training/unit-batch.ts'
import { TRAIN_DEFAULTS } from './train-defaults.ts'
import type { TrainRequest } from './train-expert.ts'
import type { TrainingDirs } from './training-folder.ts'

const MAX_BYTES = 2 ** 16

/** @throws InputError `mismatch` for text that was prepared for a training without a guarantee. */
export async function unitsOf(
  dirs: TrainingDirs,
  name: string,
  corpus: Pick<Corpus, 'train'>,
  unit: PrivacyUnit,
): Promise<readonly Unit[]> {
  const units = await readUnits(dirs.corpus, unit, corpus.train.tokens)
  if (units !== undefined) return units
  throw new InputError(
    'mismatch',
    `the text of training ${name} was prepared without --epsilon: documents that repeat others were left out, so a guarantee for one ${unit} would not hold; choose another --name`,
  )
}

/**
 * The windows of a unit for one step: all of a short one; otherwise `most` windows of T + 1 ids, chosen at random.
 * @param step and `index`, the number of the unit, determine the choice.
 */
export async function windowsOf(
  file: Pick<Corpus['train'], 'read'>,
  unit: Unit,
  { index, step, most, T }: { index: number; step: number; most: number; T: number },
): Promise<UnitWindows> {
  const blocks = Math.ceil((unitTokens(unit) - 1) / T)
  const chosen = Array.from({ length: blocks }, (_, block) => block)
  if (blocks > most) {
    const random = mulberry32(Math.imul(index + 1, 0x9e3779b1) ^ step)
    for (let i = 0; i < most; i++) {
      const other = i + Math.floor(random() * (blocks - i))
      const block = chosen[other] as number
      chosen[other] = chosen[i] as number
      chosen[i] = block
    }
    chosen.length = most
  }
  return Promise.all(chosen.map((block) => readUnit(file, unit, block * T, T + 1)))
}

/** Parameters that a training was begun with; undefined if it has none. */
export async function begunPrivacy(dirs: TrainingDirs): Promise<DpParameters | undefined> {
  const path = privacyFile(dirs)
  if (!(await pathExists(path))) return undefined
  return JSON.parse(fromUtf8(await readFileBounded(path, MAX_BYTES))) as DpParameters
}

/** Keep the parameters. Must precede the first step. */
export async function savePrivacy(dirs: TrainingDirs, parameters: DpParameters): Promise<void> {
  await writeFileAtomic(privacyFile(dirs), `${JSON.stringify(parameters, null, 2)}\n`)
}

function privacyFile({ dir }: TrainingDirs): string {
  return join(dir, 'privacy.json')
}

/** A request whose open questions are answered. */
export interface SettledRequest extends TrainRequest {
  readonly steps: number
}

/**
 * The request with the number of steps, and with the privacy that the training was begun with: its noise is chosen for
 * exactly these steps.
 * @throws InputError `mismatch` if it was begun with other parameters, or without any.
 */
export async function settle(dirs: TrainingDirs, request: TrainRequest): Promise<SettledRequest> {
  const { name, privacy, steps } = request
  const begun = await begunPrivacy(dirs)
  if (begun === undefined) {
    if (privacy !== undefined && (await pathExists(dirs.checkpoint))) {
      throw new InputError(
        'mismatch',
        `training ${name} was begun without --epsilon, so its steps have no guarantee; choose another --name`,
      )
    }
    const usual = privacy === undefined ? TRAIN_DEFAULTS.steps : TRAIN_DEFAULTS.privateSteps
    return { ...request, steps: steps ?? usual }
  }
  const { unit, epsilon, delta, clip, expectedBatch: batch } = begun
  const known = { unit, epsilon, delta, clip, batch, steps: begun.steps }
  const asked: Partial<Record<keyof typeof known, unknown>> = { ...privacy, steps }
  const changed = Object.entries(known).filter(([key, value]) => {
    const wanted = asked[key as keyof typeof known]
    return wanted !== undefined && wanted !== value
  })
  if (changed.length > 0) {
    const words = changed.map(([key, value]) => `--${key} ${value}`).join(', ')
    throw new InputError(
      'mismatch',
      `training ${name} was begun with ${words}, and its noise is chosen for that; continue it with the same options, or choose another --name`,
    )
  }
  return { ...request, privacy: { unit, epsilon, delta, clip, batch }, steps: begun.steps }
}
