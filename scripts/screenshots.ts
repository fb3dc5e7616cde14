/**
 * `npm run screenshots [-- FOLDER] [--docs]`: runs the demo with the built program, opens its dashboard in Chromium, and
 * takes a picture of every page at two widths and in both themes. Checks every page with axe, and that nothing but the
 * node is asked. With --docs, it also takes the pictures of README. Needs Chromium: `chromium` on the path, or
 * FLEXMESH_CHROMIUM.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Page } from 'playwright-core'
import { OpenedDashboard, openBrowser, THEMES } from './dashboard/browser.ts'

const PROGRAM = resolve('dist/src/main.js')
const LINK = /its dashboard, for one browser: (\S+)/
const WIDTHS = [360, 1920] as const
const HEIGHT = 1000
/** Pictures of README by the page that they show. */
const DOCS = resolve('docs/dashboard')
const DOCS_PAGES = { Overview: 'overview', Experts: 'experts', 'Try it': 'try' }
const DOCS_SIZE = { width: 1200, height: 560 }

const [given] = process.argv.slice(2).filter((word) => !word.startsWith('--'))
const folder = resolve(given ?? 'screenshots')
await mkdir(folder, { recursive: true })
const browser = await openBrowser()
const demo = spawn(process.execPath, [PROGRAM, 'demo', '--port', '0'], {
  stdio: ['ignore', 'pipe', 'inherit'],
})
let faults: readonly string[] = []
try {
  const dashboard = await OpenedDashboard.open(browser, 'demo', await linkOf())
  faults = dashboard.faults
  const names = await dashboard.names()
  for (const theme of THEMES) {
    await dashboard.setTheme(theme)
    for (const name of names) await takePictures(dashboard, name, theme)
  }
  if (process.argv.includes('--docs')) await takeDocs(dashboard)
  const number = names.length * WIDTHS.length * THEMES.length
  console.log(`${number} pictures in ${folder}, ${faults.length} faults`)
} finally {
  await browser.close()
  demo.kill('SIGINT')
  await once(demo, 'exit')
}
for (const fault of faults) console.error(fault)
process.exit(faults.length === 0 ? 0 : 1)

async function takePictures(dashboard: OpenedDashboard, name: string, theme: string): Promise<void> {
  const { page } = dashboard
  await dashboard.show(name)
  await fill(page, name)
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: HEIGHT })
    const file = `${name.toLowerCase().replaceAll(' ', '-')}-${width}-${theme}.png`
    await page.screenshot({ path: join(folder, file), fullPage: true })
    await dashboard.check(file)
  }
}

async function takeDocs(dashboard: OpenedDashboard): Promise<void> {
  const { page } = dashboard
  await dashboard.setTheme('light')
  for (const [name, file] of Object.entries(DOCS_PAGES)) {
    await page.setViewportSize(DOCS_SIZE)
    await dashboard.show(name)
    await fill(page, name)
    await page.screenshot({ path: join(DOCS, `${file}.png`), fullPage: true })
  }
}

/** The link that the demo prints once it serves. */
async function linkOf(): Promise<string> {
  for await (const line of createInterface({ input: demo.stdout })) {
    console.log(line)
    const link = LINK.exec(line)?.[1]
    if (link !== undefined) return link
  }
  throw new Error('the demo ended before it printed the link of its dashboard')
}

/** Wait for what a page shows late, and ask for what it shows only on request. */
async function fill(page: Page, name: string): Promise<void> {
  if (name === 'Experts') await page.getByRole('heading', { name: 'Withdrawn' }).waitFor()
  if (name === 'Try it') {
    await page.getByLabel('Prompt').fill('What is a protein?')
    await page.getByLabel('Kind').selectOption('chat')
    await page.getByRole('button', { name: 'Answer', exact: true }).click()
    await page.locator('.answer[aria-busy=false]').waitFor({ timeout: 60_000 })
  }
  const evaluate = page.getByRole('button', { name: 'Evaluate' })
  if (name === 'Evaluate' && (await page.getByRole('table').count()) === 0) {
    await evaluate.click()
    await page.getByRole('table').first().waitFor({ timeout: 300_000 })
  }
}
