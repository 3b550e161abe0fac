import Foundation
import RomulusCore
import RomulusSimulation

/// docs/scheduling.svg: what the adaptive schedule does with loads that change (`make schedule-picture`).
enum SchedulePicture {
    private static let seconds = 40.0
    private static let budgets = ScheduleBudgets(
        floorNanoseconds: 10_000_000, ceilingNanoseconds: 1_000_000_000, pauseShare: 0.2,
        outputDelayNanoseconds: 100_000_000)
    private static let loads: [(name: String, load: ScheduleLoad)] = [
        ("step: a server, loaded from the 10th to the 30th second", .step),
        ("burst: two seconds of work in every ten", .burst),
        ("sawtooth: work that grows for eight seconds", .sawtooth),
        ("idle", .idle),
    ]

    static func svg() -> String {
        var rows = ""
        for (index, one) in loads.enumerated() {
            let samples = Array(one.load.run(.adaptive(budgets), seconds: seconds).dropFirst())
            rows += panel(one.name, one.load, samples, top: Double(index) * 170 + 40)
        }
        return """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 740" font-family="sans-serif" font-size="12">
            <rect width="860" height="740" fill="white"/>
            <text x="60" y="20">Period in ms, logarithmic (blue), dirty pages per second (grey), and how long output waits, in ms (red)</text>
            \(rows)</svg>

            """
    }

    private static func panel(_ name: String, _ load: ScheduleLoad, _ samples: [ScheduleLoad.Sample], top: Double)
        -> String
    {
        let most = stride(from: 0, to: seconds, by: 0.1).map { load.work($0).pagesPerSecond }.max() ?? 1
        let rates = stride(from: 0.0, to: seconds, by: 0.1).map { ($0, load.work($0).pagesPerSecond / most) }
        var panel = "<text x=\"60\" y=\"\(text(top + 12))\">\(name) (grey: up to \(Int(most)) pages/s)</text>\n"
        for (value, label) in [(10.0, "10"), (100, "100"), (1000, "1000")] {
            let level = y(height(value), top)
            panel += "<line x1=\"60\" x2=\"840\" y1=\"\(level)\" y2=\"\(level)\" stroke=\"#ddd\"/>"
            panel += "<text x=\"54\" y=\"\(level)\" text-anchor=\"end\" dominant-baseline=\"middle\">\(label)</text>\n"
        }
        panel += line(rates.map { ($0.0, $0.1 * 0.95) }, "#bbb", top)
        panel += line(samples.map { ($0.start, height($0.period * 1000)) }, "#1f5fbf", top)
        panel += dots(
            samples.compactMap { sample in sample.waited.map { (sample.start, height($0 * 1000)) } }, "#c02020", top)
        return panel
    }

    /// From 0 at the bottom to 1 at the top: 5 ms to 1,500 ms.
    private static func height(_ milliseconds: Double) -> Double {
        log(max(milliseconds, 5) / 5) / log(1500.0 / 5)
    }

    private static func x(_ second: Double) -> String { text(60 + second / seconds * 780) }
    private static func y(_ height: Double, _ top: Double) -> String { text(top + 150 - height * 130) }
    private static func text(_ value: Double) -> String { String(format: "%.1f", value) }

    private static func line(_ points: [(Double, Double)], _ colour: String, _ top: Double) -> String {
        let path = points.map { "\(x($0.0)),\(y($0.1, top))" }.joined(separator: " ")
        return "<polyline points=\"\(path)\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"1.4\"/>\n"
    }

    private static func dots(_ points: [(Double, Double)], _ colour: String, _ top: Double) -> String {
        let path = points.map { "M\(x($0.0)),\(y($0.1, top))h0" }.joined()
        return "<path d=\"\(path)\" stroke=\"\(colour)\" stroke-width=\"1.6\" stroke-linecap=\"round\"/>\n"
    }
}
