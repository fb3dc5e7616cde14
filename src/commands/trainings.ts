/** The command `trainings`: every training of this node, and how far it is. */
import { ownCommand } from '../lib/command-line.ts'
import type { KnownTraining } from '../owner/training-list.ts'
import { epsilonWords } from '../packaging/privacy-words.ts'
import { nodeCommand } from './command.ts'
import { bits, table } from './terminal.ts'

export interface ListedTraining extends KnownTraining {
  /** `interrupted` if it has not finished and nothing computes it; the next `train` with its name continues it. */
  readonly state: 'running' | 'waiting' | 'interrupted' | 'finished'
  /** Whether a package of this name of this institution is in use. */
  readonly isPublished: boolean
}

export const TRAININGS = nodeCommand({
  name: 'trainings',
  usage: 'trainings',
  parameters: {},
  async *run(node): AsyncGenerator<never, { trainings: readonly ListedTraining[] }, void> {
    const running = new Set(node.activities.list().map(({ what }) => what))
    const waiting = node.trainings.waiting()
    const published = new Set(
      (await node.packages()).flatMap(({ isOwn, state, expert }) =>
        isOwn && state === 'accepted' && expert !== undefined ? [expert] : [],
      ),
    )
    const stateOf = ({ name, isFinished }: KnownTraining): ListedTraining['state'] => {
      if (running.has(`training ${name}`) || running.has(`preparing the text of ${name}`)) return 'running'
      if (waiting.includes(name)) return 'waiting'
      return isFinished ? 'finished' : 'interrupted'
    }
    return {
      trainings: (await node.trainings.list()).map((training) => ({
        ...training,
        state: stateOf(training),
        isPublished: published.has(training.name),
      })),
    }
  },
  words: ({ trainings }) =>
    trainings.length === 0
      ? [`no trainings; ${ownCommand('train', '--name', 'NAME', '--data', 'PATH')} begins one`]
      : table(trainings.map(cells)),
})

function cells({ name, state, step, own, epsilon, isAudited, isPublished }: ListedTraining): string[] {
  const facts = [
    ...(own === undefined ? [] : [`own text ${bits(own.before)} -> ${bits(own.after)} bits per byte`]),
    ...(epsilon === undefined ? [] : [`epsilon ${epsilonWords(epsilon)}`]),
    ...(isAudited ? ['audited'] : []),
    ...(isPublished ? ['published'] : []),
  ]
  return [name, state, step === undefined ? '' : `step ${step}`, facts.join(', ')]
}
