/**
 * `npm run drive [-- --measure]`: drives the dashboards of three real nodes in Chromium as three operators would, checks
 * every page in both themes, and measures what a dashboard costs a browser; with --measure it only measures. Ends with 1
 * if a step fails, a page asks anything but its node, a page has an error, axe finds a violation, or a figure exceeds its
 * limit. Needs the built program and Chromium.
 */
import type { Browser } from 'playwright-core'
import { OpenedDashboard, openBrowser } from './dashboard/browser.ts'
import { measure } from './dashboard/measure.ts'
import { type Institution, withInstitutions } from './dashboard/nodes.ts'
import { type Drive, STEPS_IN_ORDER } from './dashboard/steps.ts'

const NAMES = ['St. Anna Hospital', 'Archives du Travail', 'Institute of Logic']
/** Time that a step may take: computing an audit and a training on a busy machine, ms. */
const PATIENCE_MS = 300_000

async function drive(browser: Browser, institutions: Institution[]): Promise<string[]> {
  const [first, second, third] = institutions as [Institution, Institution, Institution]
  const dashboards: OpenedDashboard[] = []
  const faults: string[] = []
  for (const institution of institutions) await institution.init()
  await first.found('Consortium of the drive')
  await first.start()
  const open: Drive['open'] = async (institution, ...args) => {
    const opened = await OpenedDashboard.open(browser, institution.name, await institution.link(...args))
    opened.page.setDefaultTimeout(PATIENCE_MS)
    if (args.length === 0) dashboards.push(opened)
    return opened
  }
  for (const [i, [title, run]] of STEPS_IN_ORDER.entries()) {
    const started = performance.now()
    try {
      await run({ institutions: [first, second, third], dashboards, open })
    } catch (error) {
      faults.push(`${title}: ${error instanceof Error ? error.message : error}`)
      for (const { page } of dashboards)
        faults.push((await page.locator('main').ariaSnapshot()).slice(0, 3000))
      break
    }
    console.log(`${i + 1}. ${title}: ${((performance.now() - started) / 1000).toFixed(1)} s`)
  }
  for (const one of dashboards) faults.push(...one.faults)
  return faults
}

const browser = await openBrowser()
let faults: string[] = []
try {
  if (!process.argv.includes('--measure'))
    await withInstitutions(NAMES, async (institutions) => {
      faults = await drive(browser, institutions)
    })
  faults.push(...(await measure(browser)))
} finally {
  await browser.close()
}
for (const fault of faults) console.error(fault)
console.log(faults.length === 0 ? 'no faults' : `${faults.length} faults`)
process.exit(faults.length === 0 ? 0 : 1)
