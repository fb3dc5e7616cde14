/**
 * A Chromium that opens dashboards and records what must never happen in one: requests to anything but its node, errors,
 * and violations that axe finds. Does not know what the pages show.
 */
import { existsSync } from 'node:fs'
import { AxeBuilder } from '@axe-core/playwright'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'

const CHROMIUM = process.env['FLEXMESH_CHROMIUM'] ?? '/usr/bin/chromium'
const VIEWPORT = { width: 1280, height: 1000 }
export const THEMES = ['light', 'dark'] as const
/** The browser reports lost connections as errors; they are expected while a node is stopped. */
const LOST_CONNECTION = /net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET)/

/** @throws Error if Chromium is not installed. */
export function openBrowser(): Promise<Browser> {
  if (!existsSync(CHROMIUM)) {
    throw new Error(`${CHROMIUM} does not exist; install Chromium or set FLEXMESH_CHROMIUM`)
  }
  return chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--disable-component-update', '--enable-precise-memory-info'],
  })
}

/** A dashboard in a browser context of its own, as one person has it. */
export class OpenedDashboard {
  readonly page: Page
  readonly context: BrowserContext
  /** What must never happen, in words. */
  readonly faults: string[] = []
  /** Whether the node is stopped on purpose, so that lost connections are no faults. */
  isNodeStopped = false
  readonly #name: string

  private constructor(name: string, context: BrowserContext, page: Page) {
    this.#name = name
    this.context = context
    this.page = page
  }

  /**
   * Open a link in a new context, because axe opens pages of its own in it.
   * @param name of the node, for faults
   */
  static async open(browser: Browser, name: string, link: string): Promise<OpenedDashboard> {
    const context = await browser.newContext({ viewport: VIEWPORT })
    const page = await context.newPage()
    const dashboard = new OpenedDashboard(name, context, page)
    dashboard.#watch(new URL(link).origin)
    await page.goto(link)
    await page.getByRole('navigation').waitFor()
    return dashboard
  }

  #watch(origin: string): void {
    const fault = (text: string): void => void this.faults.push(`${this.#name}: ${text}`)
    this.context.on('request', (request) => {
      const url = request.url()
      if (!url.startsWith(`${origin}/`) && !url.startsWith('data:') && url !== 'about:blank')
        fault(`the page asked ${url}`)
    })
    this.page.on('pageerror', (error) => fault(`error in the page: ${error.stack ?? error.message}`))
    this.page.on('console', (message) => {
      if (message.type() !== 'error') return
      if (this.isNodeStopped && LOST_CONNECTION.test(message.text())) return
      fault(`the page printed: ${message.text()} ${message.location().url}`)
    })
  }

  /** Names of the pages in the navigation. */
  names(): Promise<string[]> {
    return this.page.locator('nav a').allTextContents()
  }

  async show(name: string): Promise<void> {
    await this.page.getByRole('navigation').getByRole('link', { name, exact: true }).click()
    await this.page.getByRole('heading', { level: 1, name, exact: true }).waitFor()
    await this.page
      .locator('main')
      .getByText('loading …')
      .waitFor({ state: 'detached' })
      .catch(() => undefined)
  }

  async setTheme(theme: (typeof THEMES)[number] | 'auto'): Promise<void> {
    await this.page.getByLabel('Theme').selectOption(theme)
  }

  /** Check what the page shows now, and that nothing is wider than the window. */
  async check(title: string): Promise<void> {
    const { violations } = await new AxeBuilder({ page: this.page }).analyze()
    for (const { id, nodes } of violations)
      this.faults.push(
        `${this.#name}, ${title}: ${id}: ${nodes
          .map(({ html }) => html)
          .join(' | ')
          .slice(0, 600)}`,
      )
    const excess = await this.page.evaluate(
      'document.documentElement.scrollWidth - document.documentElement.clientWidth',
    )
    if (Number(excess) > 0)
      this.faults.push(`${this.#name}, ${title}: ${excess} pixels wider than the window`)
  }

  /** Check every page in both themes. */
  async checkAll(title: string): Promise<void> {
    for (const theme of THEMES) {
      await this.setTheme(theme)
      for (const name of await this.names()) {
        await this.show(name)
        await this.check(`${title}, ${name}, ${theme}`)
      }
    }
    await this.setTheme('auto')
  }
}
