/**
 * What the dashboard costs a browser: bytes and time of the first paint, time to filter a
 * thousand members and two hundred packages, and memory after an hour of events. Prints the figures and compares each
 * with its limit.
 */
import type { Browser, CDPSession, Page } from 'playwright-core'
import { OpenedDashboard } from './browser.ts'
import { eventsOf, simulatedNode } from './simulated-node.ts'

const MEMBERS = 1000
const PACKAGES = 200
/** Ten events a second for an hour. */
const EVENTS = 36_000
const BATCH = 60
/** Repetitions of a measurement of time, of which the median counts. */
const REPEATED = 9

interface Figure {
  readonly name: string
  readonly value: number
  readonly most: number
  readonly unit: string
}

/** @returns what exceeds its limit, and what must never happen in a page */
export async function measure(browser: Browser): Promise<string[]> {
  const node = await simulatedNode(MEMBERS, PACKAGES)
  try {
    const dashboard = await OpenedDashboard.open(browser, 'simulated node', node.link)
    const { page, context } = dashboard
    const figures = [
      ...(await firstPaint(page)),
      ...(await filtering(dashboard)),
      ...(await anHour(dashboard, await context.newCDPSession(page), node.push)),
    ]
    for (const { name, value, most, unit } of figures)
      console.log(`${name}: ${value.toFixed(1)} ${unit}, at most ${most}`)
    const exceeded = figures.filter(({ value, most }) => value > most)
    return [...exceeded.map(({ name }) => `${name} exceeds its limit`), ...dashboard.faults]
  } finally {
    await node.close()
  }
}

/** Loads the page again and again, without the cache of the browser. */
async function firstPaint(page: Page): Promise<Figure[]> {
  const client = await page.context().newCDPSession(page)
  await client.send('Network.enable')
  await client.send('Network.setCacheDisabled', { cacheDisabled: true })
  const isData = new Set<string>()
  let bytes = { page: 0, data: 0 }
  client.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    bytes[isData.has(requestId) ? 'data' : 'page'] += encodedDataLength
  })
  client.on('Network.responseReceived', ({ requestId, type }) => {
    if (type === 'Fetch' || type === 'EventSource') isData.add(requestId)
  })
  const times: number[] = []
  const sizes: { page: number; data: number }[] = []
  for (let i = 0; i < REPEATED; i++) {
    bytes = { page: 0, data: 0 }
    await page.reload({ waitUntil: 'load' })
    await page.getByText('What answers').waitFor()
    sizes.push(bytes)
    times.push(
      Number(await page.evaluate('performance.getEntriesByName("first-contentful-paint")[0].startTime')),
    )
  }
  await client.detach()
  return [
    { name: 'first paint', value: median(times), most: 1000, unit: 'ms' },
    {
      name: 'files of the page over the wire',
      value: median(sizes.map((one) => one.page)) / 1000,
      most: 150,
      unit: 'kB',
    },
    {
      name: `files and what the first page shows of ${MEMBERS} members`,
      value: median(sizes.map((one) => one.page + one.data)) / 1000,
      most: 150,
      unit: 'kB',
    },
  ]
}

async function filtering({ page }: OpenedDashboard): Promise<Figure[]> {
  const figures: Figure[] = []
  const filters = [
    ['Network', `${MEMBERS} members`, 'theorems 9'],
    ['Experts', `${PACKAGES} packages`, 'law refused'],
  ] as const
  for (const [name, what, words] of filters) {
    await page.getByRole('navigation').getByRole('link', { name, exact: true }).click()
    await page.getByRole('heading', { level: 1, name, exact: true }).waitFor()
    await page.getByRole('searchbox').first().waitFor()
    const times: number[] = []
    for (let i = 0; i < REPEATED; i++) times.push(await timeToFilter(page, i % 2 === 0 ? words : ''))
    figures.push({ name: `filtering ${what}`, value: median(times), most: 100, unit: 'ms' })
  }
  return figures
}

/** Milliseconds from a change of the first filter to the second frame after it: the first draws its effect. */
async function timeToFilter(page: Page, words: string): Promise<number> {
  return page.evaluate<number>(`new Promise((resolve) => {
    const field = document.querySelector('input[type=search]')
    const started = performance.now()
    field.value = ${JSON.stringify(words)}
    field.dispatchEvent(new Event('input', { bubbles: true }))
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - started)))
  })`)
}

/** Sends an hour of events while each page is shown, and compares the memory of the page before and after. */
async function anHour(
  { page }: OpenedDashboard,
  client: CDPSession,
  push: (events: readonly { readonly event: string }[]) => Promise<void>,
): Promise<Figure[]> {
  const names = await page.locator('nav a').allTextContents()
  const visit = async (name: string): Promise<void> => {
    await page.getByRole('navigation').getByRole('link', { name, exact: true }).click()
    await page.getByRole('heading', { level: 1, name, exact: true }).waitFor()
  }
  // The page keeps the latest thousand events and every page's code from the beginning.
  for (const name of names) await visit(name)
  await push(eventsOf(1000))
  await visit('Log')
  const before = await heapBytes(client)
  const events = eventsOf(EVENTS)
  const share = Math.ceil(EVENTS / names.length)
  for (const [i, name] of names.entries()) {
    await visit(name)
    const own = events.slice(i * share, (i + 1) * share)
    for (let at = 0; at < own.length; at += BATCH) {
      await push(own.slice(at, at + BATCH))
      // The page has handled them when it answers.
      await page.evaluate('1')
    }
  }
  await visit('Log')
  await page.getByText(`${(EVENTS - 1) * 37} bytes`).waitFor()
  const after = await heapBytes(client)
  return [
    { name: `memory of the page`, value: before / 1e6, most: 100, unit: 'MB' },
    {
      name: `growth by ${EVENTS} events`,
      value: (after - before) / 1e6,
      most: 20,
      unit: 'MB',
    },
  ]
}

/** Bytes of objects and of what belongs to documents, after garbage collection. */
async function heapBytes(client: CDPSession): Promise<number> {
  for (let i = 0; i < 3; i++) await client.send('HeapProfiler.collectGarbage')
  const { usedSize, embedderHeapUsedSize = 0 } = await client.send('Runtime.getHeapUsage')
  return usedSize + embedderHeapUsedSize
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number
}
