/**
 * What three operators do in the dashboards of their nodes, from the first application to the receipts of a withdrawal.
 * Each step fails if the page does not show what it should.
 */
import { resolve } from 'node:path'
import type { Page } from 'playwright-core'
import type { OpenedDashboard } from './browser.ts'
import type { Institution } from './nodes.ts'

const HOSPITAL_TEXT = resolve('examples/hospital/text')
const LOGIC_TEXT = resolve('examples/university/text')
/** Steps of the training that is paused and continued. */
const STEPS = '60'

export interface Drive {
  readonly institutions: readonly [Institution, Institution, Institution]
  readonly dashboards: OpenedDashboard[]
  readonly open: (institution: Institution, ...args: string[]) => Promise<OpenedDashboard>
}
export type Step = readonly [title: string, run: (drive: Drive) => Promise<void>]

/** In order; each begins where the one before has ended. */
export const STEPS_IN_ORDER: readonly Step[] = [
  [
    'a founder invites, sees the application and approves it',
    async ({ institutions: [first, second], open }) => {
      const { page } = await open(first)
      const joined = second.begin('join', await inviteFrom(page))
      await page.getByRole('button', { name: 'Approve' }).click()
      await confirm(page, 'Approve')
      await exited(joined)
      await second.start()
      await showRow(page, 'Members of the consortium', second.name)
    },
  ],
  [
    'a second member endorses the admission that the first has proposed',
    async ({ institutions: [, second, third], dashboards: [first], open }) => {
      const { page } = first as OpenedDashboard
      const joined = third.begin('join', await inviteFrom(page))
      await page.getByRole('button', { name: 'Approve' }).click()
      await confirm(page, 'Approve')
      await page.getByText('1 of 2 until').waitFor()
      const { page: other } = await open(second)
      await other.getByText('proposes to admit').first().waitFor()
      await show(other, 'Consortium')
      await other.getByRole('button', { name: 'Endorse' }).click()
      await confirm(other, 'Endorse')
      await exited(joined)
      await third.start()
      await open(third)
      await showRow(page, 'Members of the consortium', third.name)
      await page.getByText('in effect since roster').first().waitFor()
    },
  ],
  [
    'an operator looks at a folder, trains on it, sees the curve, pauses, continues',
    async ({ dashboards: [first] }) => {
      const { page } = first as OpenedDashboard
      await show(page, 'Train')
      await page.getByLabel('Name of the expert').fill('biomedicine')
      await page.getByLabel('Files and folders on this machine').fill(HOSPITAL_TEXT)
      await page.getByRole('button', { name: 'Look at the text' }).click()
      await page.getByText(/text: \d+ documents, \d+ tokens/).waitFor()
      await page.getByText('nothing was written').waitFor()
      await page.getByText('More choices').click()
      await page.getByLabel('Steps').fill(STEPS)
      await page.getByRole('button', { name: 'Start', exact: true }).click()
      const panel = page.locator('section', {
        has: page.getByRole('heading', { name: 'Training biomedicine' }),
      })
      await panel.locator('.curve canvas').waitFor()
      await panel
        .getByText(/tokens\/s/)
        .first()
        .waitFor()
      await panel.getByRole('button', { name: 'Pause' }).click()
      await panel.getByText('stopped').waitFor()
      await page.getByText(/interrupted at step \d+/).waitFor()
      await panel.getByRole('button', { name: 'Continue' }).click()
      await page.getByText('Bits per byte on its held-out text').waitFor()
      await page.getByText('The loss as a table').first().click()
      await page.getByRole('columnheader', { name: 'Loss' }).first().waitFor()
    },
  ],
  [
    'an operator starts another training, stops it and deletes it',
    async ({ dashboards: [, , third] }) => {
      const { page } = third as OpenedDashboard
      await show(page, 'Train')
      await page.getByLabel('Name of the expert').fill('mistake')
      await page.getByLabel('Files and folders on this machine').fill(LOGIC_TEXT)
      await page.getByRole('button', { name: 'Start', exact: true }).click()
      await page.getByRole('button', { name: 'Stop …' }).click()
      await confirm(page, 'Stop and delete')
      await page.getByText('the training mistake is deleted').waitFor()
      await page.getByText('None yet.').waitFor()
    },
  ],
  [
    'it publishes the expert after a preview, and another node accepts it',
    async ({ dashboards: [first, second] }) => {
      const { page } = first as OpenedDashboard
      await preview(page, 'biomedicine', 'biomedicine')
      await release(page)
      const { page: other } = second as OpenedDashboard
      await show(other, 'Experts')
      const row = other.getByRole('row', { name: /biomedicine/ }).first()
      await row.getByText('accepted').waitFor()
      await row.getByText('audited by its publisher').waitFor()
      await other.getByRole('table', { name: 'Measured gains' }).waitFor()
    },
  ],
  [
    'a third institution trains on the command line, and publishes from the page',
    async ({ institutions: [, , third], dashboards: [, second, opened] }) => {
      await third.run('train', '--name', 'theorems', '--data', LOGIC_TEXT, '--steps', STEPS)
      const { page } = opened as OpenedDashboard
      await show(page, 'Train')
      await page
        .getByRole('row', { name: /theorems/ })
        .getByText('finished')
        .waitFor()
      // The audit finds that so many steps on so little text let others extract a part of it.
      await preview(page, 'theorems', 'theorems')
      await page.getByText('the audit of theorems stops its publication').waitFor()
      await preview(page, 'theorems', 'theorems', 'the text of this example is public')
      await release(page)
      const { page: other } = second as OpenedDashboard
      await show(other, 'Experts')
      await other
        .getByRole('row', { name: /theorems/ })
        .first()
        .getByText('accepted')
        .waitFor()
    },
  ],
  [
    'somebody chats, sees who carries which token, and leaves an institution out',
    async ({ dashboards: [, second] }) => {
      const { page } = second as OpenedDashboard
      await show(page, 'Overview')
      const answers = page.locator('section', { has: page.getByRole('heading', { name: 'What answers' }) })
      for (const name of ['St. Anna Hospital', 'Institute of Logic']) await answers.getByText(name).waitFor()
      await show(page, 'Try it')
      await page.getByLabel('Prompt').fill('What is a protein?')
      await page.getByLabel('Kind').selectOption('chat')
      await page.getByLabel('Tokens').fill('24')
      await page.getByRole('button', { name: 'Answer', exact: true }).click()
      await page.locator('.answer[aria-busy=false] .token').nth(5).waitFor()
      await page.locator('.token').first().focus()
      await page.getByText('Shares of “', { exact: false }).or(page.locator('h3 q')).first().waitFor()
      await page.locator('.shares li', { hasText: 'St. Anna Hospital' }).waitFor()
      await page.getByRole('checkbox', { name: /St\. Anna Hospital/ }).uncheck()
      await page.getByLabel('show beside the answer of all').check()
      await page.getByRole('button', { name: 'Answer', exact: true }).click()
      const right = page.locator('section', {
        has: page.getByRole('heading', { name: 'As chosen above' }),
      })
      await right.locator('.answer[aria-busy=false] .token').nth(5).waitFor()
      await right.locator('.shares li', { hasText: 'Institute of Logic' }).getByText('%').waitFor()
      await right.locator('.shares li', { hasText: 'St. Anna Hospital' }).getByText('left out').waitFor()
    },
  ],
  [
    'somebody evaluates, and sees the table and the routing',
    async ({ dashboards: [, second] }) => {
      const { page } = second as OpenedDashboard
      await show(page, 'Evaluate')
      await page.getByLabel('Files and folders on this machine').fill(`letters=${LOGIC_TEXT}`)
      await page.getByRole('button', { name: 'Evaluate' }).click()
      await page.getByRole('table', { name: 'Bits per byte by text' }).waitFor()
      await page.getByRole('table', { name: 'Bits per byte without one expert' }).waitFor()
      await page.locator('.routing-row').first().waitFor()
    },
  ],
  [
    'an answer of the API is counted on the page Usage',
    async ({ institutions: [, second], dashboards: [, opened] }) => {
      const { page } = opened as OpenedDashboard
      await show(page, 'Usage')
      await page.getByLabel('Name of the new key').fill('library')
      await page.getByRole('button', { name: 'Make a key' }).click()
      const key = (await page.locator('.secret code').textContent()) ?? ''
      await page.getByRole('button', { name: 'Hide' }).click()
      await second.ask(key, 'The theorem')
      // A running node writes its counts every half minute.
      await page
        .getByRole('table', { name: 'What each key has used', exact: true })
        .getByText('library')
        .waitFor()
      await page.locator('.shares li', { hasText: 'public model' }).waitFor()
    },
  ],
  [
    'every page passes axe in both themes, at a node with everything',
    async ({ dashboards }) => {
      for (const dashboard of dashboards.slice(0, 2)) await dashboard.checkAll('with experts')
    },
  ],
  [
    'a reader sees all pages and no button that acts',
    async ({ institutions: [first], open }) => {
      const reader = await open(first, '--read-only')
      for (const name of await reader.names()) {
        await reader.show(name)
        for (const word of ['Approve', 'Endorse', 'Withdraw', 'Refuse', 'Start', 'Connect', 'Make a key'])
          if ((await reader.page.getByRole('button', { name: word, exact: true }).count()) > 0)
            throw new Error(`a reader has the button ${word} on the page ${name}`)
      }
      await reader.checkAll('reader')
      await reader.context.close()
    },
  ],
  [
    'a restart of the node ends neither session nor page',
    async ({ institutions: [first], dashboards: [opened] }) => {
      const dashboard = opened as OpenedDashboard
      const { page } = dashboard
      dashboard.isNodeStopped = true
      await first.stop()
      await page.getByText('connecting …').waitFor()
      await first.start()
      await page.getByText('live', { exact: true }).waitFor()
      dashboard.isNodeStopped = false
      await show(page, 'Train')
      await page
        .getByRole('row', { name: /biomedicine/ })
        .getByText('published')
        .waitFor()
      await page.reload()
      await page
        .getByRole('row', { name: /biomedicine/ })
        .getByText('published')
        .waitFor()
    },
  ],
  [
    'the owner withdraws the expert and sees the receipts of both members',
    async ({ institutions: [, second, third], dashboards: [first, opened] }) => {
      const { page } = first as OpenedDashboard
      await show(page, 'Experts')
      await page.getByRole('button', { name: 'Withdraw' }).click()
      await confirm(page, 'Withdraw')
      await page.getByText('2 of 2 have answered').waitFor()
      for (const { name } of [second, third]) {
        const row = page.getByRole('row', { name: new RegExp(name.replace('.', '\\.')) })
        await row.getByText('dropped it').waitFor()
      }
      const { page: other } = opened as OpenedDashboard
      await show(other, 'Overview')
      await other.getByText('What answers').waitFor()
      await other
        .locator('section', { hasText: 'What answers' })
        .getByText('St. Anna Hospital')
        .waitFor({ state: 'detached' })
    },
  ],
  [
    'every page passes axe in both themes after the withdrawal',
    async ({ dashboards: [first] }) => {
      await (first as OpenedDashboard).checkAll('after the withdrawal')
    },
  ],
]

async function show(page: Page, name: string): Promise<void> {
  await page.getByRole('navigation').getByRole('link', { name, exact: true }).click()
  await page.getByRole('heading', { level: 1, name, exact: true }).waitFor()
}

/** The line of a new invitation, made on the page Consortium. */
async function inviteFrom(page: Page): Promise<string> {
  await show(page, 'Consortium')
  await page.getByRole('button', { name: 'New invitation' }).click()
  const line = (await page.locator('.secret code').textContent()) ?? ''
  await page.getByRole('button', { name: 'Hide' }).click()
  return line
}

async function confirm(page: Page, action: string): Promise<void> {
  await page.getByRole('dialog').getByRole('button', { name: action, exact: true }).click()
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
}

async function showRow(page: Page, table: string, name: string): Promise<void> {
  await page
    .getByRole('table', { name: table })
    .getByRole('row', { name: new RegExp(name.replace('.', '\\.')) })
    .waitFor()
}

/** Ask for the preview of a publication. */
async function preview(page: Page, name: string, domain: string, risk?: string): Promise<void> {
  await page
    .getByRole('row', { name: new RegExp(name) })
    .getByRole('button', { name: 'Publish …' })
    .click()
  await page.getByLabel('Domain').fill(domain)
  if (risk !== undefined) {
    await page.getByText('If an audit stops it').click()
    await page.getByLabel('Reason to publish all the same').fill(risk)
  }
  await page.getByRole('button', { name: 'Preview' }).click()
}

/** Publish what the preview shows. */
async function release(page: Page): Promise<void> {
  await page.getByText('would leave this machine').waitFor()
  await page.getByRole('button', { name: 'Publish', exact: true }).click()
  await confirm(page, 'Publish')
  await page.getByText('Published.').waitFor()
}

async function exited(child: {
  exitCode: number | null
  once: (event: 'exit', done: (code: number | null) => void) => unknown
}): Promise<void> {
  const code = child.exitCode ?? (await new Promise<number | null>((done) => child.once('exit', done)))
  if (code !== 0) throw new Error(`a command ended with ${code}`)
}
