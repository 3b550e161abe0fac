/// `make bench`: what the page engine's parts do on this machine. A benchmark, not a test: it passes whatever it finds.
@main enum Benchmarks {
    static func main() throws {
        let words = CommandLine.arguments.dropFirst()
        if words.first == "record", words.count == 3 {
            let paths = Array(words.dropFirst())
            try Recorder.record(link: paths[0], trace: paths[1])
            return
        }
        if words == ["schedule"] { return print(SchedulePicture.svg(), terminator: "") }
        guard words.first == nil || words.first == "traces" else {
            print(
                "usage: romulus-bench [traces FILE...]\n       romulus-bench record LINK TRACE\n       romulus-bench schedule"
            )
            return
        }
        if words.isEmpty {
            PageSpeed.report()
            Growth.report()
        }
        try Traces.report(Array(words.dropFirst()))
    }
}
