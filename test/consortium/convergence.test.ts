/**
 * What holds after any history of proposals, endorsements, partitions, restarts and lost messages. FLEXMESH_SCHEDULES sets
 * the number of schedules, FLEXMESH_SCHEDULE the seed of the first one.
 */
import { describe, expect, it } from 'vitest'
import { Schedule } from '../support/governance-schedule.ts'

const SCHEDULES = Number(process.env['FLEXMESH_SCHEDULES'] ?? 1000)
const FIRST = Number(process.env['FLEXMESH_SCHEDULE'] ?? 1)
/** Schedules of one test, so that none takes long. */
const BATCH = 250

describe('five nodes that decide together', () => {
  const batches = Array.from({ length: Math.ceil(SCHEDULES / BATCH) }, (_, i) => FIRST + i * BATCH)

  it.each(batches)(
    'have the same roster, withdrawn packages and composition after healing (seeds from %d)',
    (first) => {
      let changed = 0
      for (let seed = first; seed < first + BATCH; seed++) {
        const schedule = new Schedule(seed)
        const [outcome, ...others] = schedule.run()
        for (const other of others)
          expect(other, `seed ${seed}:\n${schedule.log.join('\n')}`).toEqual(outcome)
        if ((outcome?.version ?? 1) > 1) changed++
      }
      expect(changed).toBeGreaterThan(BATCH / 2)
    },
  )
})
