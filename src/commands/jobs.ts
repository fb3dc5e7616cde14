/** The command `jobs`: what the node computes now, and which trainings wait for their turn. */
import { interrupted } from '../lib/pause.ts'
import type { Activity } from '../node/activities.ts'
import { nodeCommand } from './command.ts'
import { EXPERT_NAME } from './common-parameters.ts'
import { requiredOption } from './parameters.ts'
import { timeOfDay } from './terminal.ts'

export const JOBS = nodeCommand({
  name: 'jobs',
  usage: 'jobs',
  parameters: {},
  async *run(node) {
    return {
      running: node.activities.list(),
      /** Names of trainings, in their order. */
      waiting: node.trainings.waiting(),
    }
  },
  words: ({ running, waiting }) => {
    const lines = [
      ...running.map((activity) => `${activityLine(activity)}, since ${timeOfDay(activity.since)}`),
      ...waiting.map((name) => `training ${name} waits`),
    ]
    return lines.length === 0 ? ['nothing is being computed'] : lines
  },
})

/** As in `training ward, step 40 of 200`. */
export function activityLine({ what, progress }: Pick<Activity, 'what' | 'progress'>): string {
  return progress === undefined ? what : `${what}, ${progress}`
}

/**
 * Keeps the folder of a training for the process that calls it, until that process interrupts this command or ends.
 * Not listed in the help.
 */
export const CLAIM = nodeCommand({
  name: 'claim',
  usage: 'claim --name NAME',
  parameters: { name: requiredOption('name', 'name of the training', EXPERT_NAME) },
  async *run(node, { name }, signal) {
    const release = node.trainings.claim(name)
    try {
      yield { claimed: name }
      await interrupted(signal)
      return {}
    } finally {
      release()
    }
  },
  words: () => [],
})
