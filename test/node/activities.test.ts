import { expect, it } from 'vitest'
import { Activities } from '../../src/node/activities.ts'

it('a job whose caller leaves ends, and is no longer listed', async () => {
  const ended: string[] = []
  async function* train(): AsyncGenerator<never, null, void> {
    try {
      for (;;) yield { stage: 'phase', phase: 'compile' } as never
    } finally {
      ended.push('train')
    }
  }
  const jobs = { run: () => train() }
  const activities = new Activities({
    jobs: jobs as never,
    institutionOf: (publisher) => publisher,
    onEvent: () => undefined,
    now: () => 0,
  })
  const running = activities.run('train', { name: 'ward' } as never, new AbortController().signal)
  await running.next()
  expect(activities.list()).toMatchObject([{ what: 'training ward' }])
  await running.return(null)
  expect(ended).toEqual(['train'])
  expect(activities.list()).toEqual([])
})
