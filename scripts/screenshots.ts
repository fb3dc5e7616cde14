/**
 * `npm run screenshots [-- FOLDER]`: runs the demo with the built program, opens its dashboard in Chromium, and takes a
 * picture of every page at two widths and in both themes. Checks every page with axe, and that nothing but the node is
 * asked. Needs Chromium: `chromium` on the path, or FLEXMESH_CHROMIUM.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { AxeBuilder } from '@axe-core/playwright'
import { chromium, type Page } from 'playwright-core'

const PROGRAM = resolve('dist/src/main.js')
const LINK = /its dashboard, for one browser: (\S+)/
const WIDTHS = [360, 1920] as const
const THEMES = ['light', 'dark'] as const
const HEIGHT = 1000
const BROWSER = process.env['FLEXMESH_CHROMIUM'] ?? '/usr/bin/chromium'

const folder = resolve(process.argv[2] ?? 'screenshots')
if (!existsSync(BROWSER))
  throw new Error(`${BROWSER} does not exist; install Chromium or set FLEXMESH_CHROMIUM`)
await mkdir(folder, { recursive: true })

const demo = spawn(process.execPath, [PROGRAM, 'demo', '--port', '0'], {
  stdio: ['ignore', 'pipe', 'inherit'],
})
const browser = await chromium.launch({ executablePath: BROWSER, args: ['--no-sandbox'] })
const faults: string[] = []
try {
  const page = await openDashboard(await linkOf())
  const names = await page.locator('nav a').allTextContents()
  for (const theme of THEMES) {
    await page.getByLabel('Theme').selectOption(theme)
    for (const name of names) {
      await page.getByRole('link', { name, exact: true }).first().click()
      await page.getByRole('heading', { level: 1, name }).waitFor()
      await page.waitForLoadState('networkidle').catch(() => undefined)
      if (name === 'Try it') await answerIn(page)
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: HEIGHT })
        const file = `${name.toLowerCase().replaceAll(' ', '-')}-${width}-${theme}.png`
        await page.screenshot({ path: join(folder, file), fullPage: true })
        const { violations } = await new AxeBuilder({ page }).analyze()
        for (const { id, nodes } of violations) faults.push(`${file}: ${id}: ${nodes[0]?.html ?? ''}`)
      }
    }
  }
  console.log(
    `${names.length * WIDTHS.length * THEMES.length} pictures in ${folder}, ${faults.length} faults`,
  )
} finally {
  await browser.close()
  demo.kill('SIGINT')
  await once(demo, 'exit')
}
for (const fault of faults) console.error(fault)
process.exit(faults.length === 0 ? 0 : 1)

/** The link that the demo prints once it serves. */
async function linkOf(): Promise<string> {
  for await (const line of createInterface({ input: demo.stdout })) {
    console.log(line)
    const link = LINK.exec(line)?.[1]
    if (link !== undefined) return link
  }
  throw new Error('the demo ended before it printed the link of its dashboard')
}

async function openDashboard(link: string): Promise<Page> {
  // The library of axe opens pages of its own, which only a context of its own allows.
  const context = await browser.newContext({ viewport: { width: WIDTHS[1], height: HEIGHT } })
  const page = await context.newPage()
  const { origin } = new URL(link)
  page.on('request', (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith('data:'))
      faults.push(`the page asked ${request.url()}`)
  })
  page.on('pageerror', (error) => faults.push(`error in the page: ${error.message}`))
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`the page printed: ${message.text()}`)
  })
  await page.goto(link)
  await page.getByRole('navigation').waitFor()
  return page
}

async function answerIn(page: Page): Promise<void> {
  await page.getByLabel('Prompt').fill('What is a protein?')
  await page.getByLabel('Kind').selectOption('chat')
  await page.getByRole('button', { name: 'Answer' }).click()
  await page.locator('.answer[aria-busy=false]').waitFor({ timeout: 60_000 })
}
