import ArgumentParser
import Glibc
import RomulusHost

struct Top: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The same as status, live.",
        discussion:
            "On a terminal the screen is redrawn; elsewhere each look is printed below the last. Ctrl-C ends it.")

    @Option(name: .shortAndLong, help: "Seconds between two looks.") var delay = 1.0
    @Option(name: [.customShort("n"), .long], help: "How many looks; without it there is no end.") var count: Int?

    func validate() throws {
        guard delay >= 0.1, delay <= 3600 else { throw ValidationError("--delay must be between 0.1 and 3600 seconds") }
        guard count ?? 1 >= 1 else { throw ValidationError("--count must be 1 or more") }
    }

    func run() throws {
        let isTerminal = isatty(1) == 1
        var looks = 0
        while true {
            let statuses = try Sessions.statuses()
            let width = isTerminal ? terminalWidth() : .max
            let screen = Self.screen(statuses, at: Int64(time(nil)), width: width)
            print(
                isTerminal
                    ? Self.clear + screen.map { Self.cut($0, width) }.joined(separator: "\n")
                    : screen.joined(separator: "\n"))
            fflush(nil)
            looks += 1
            if let count, looks >= count { return }
            usleep(useconds_t(delay * 1e6))
        }
    }

    /// Home, and everything behind it away: ECMA-48, as every terminal has it.
    private static let clear = "\u{1B}[H\u{1B}[J"

    static func screen(_ statuses: [JSON], at time: Int64, width: Int = .max) -> [String] {
        let head =
            "romulus top, \(localTime(time)): \(statuses.count) session\(statuses.count == 1 ? "" : "s"); times in ms"
        return [head, ""] + StatusTable(statuses, width: width).lines + [""] + StatusTable.newestEvents(statuses)
    }

    private static func cut(_ line: String, _ width: Int) -> String { String(line.prefix(width)) }

    private func terminalWidth() -> Int {
        var size = winsize()
        return ioctl(1, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
    }
}
