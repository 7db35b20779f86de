// Gocheck verifies an exported log with golang.org/x/mod alone: signature, tree, every tile and every entry.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// tiles reads hash tiles; x/mod puts the tile height into their path, c2sp.org/tlog-tiles does not.
type tiles string

func (t tiles) Height() int { return height }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, tile := range wanted {
		tile.H = height
		raw, err := os.ReadFile(t.path(tile))
		if err != nil {
			return nil, err
		}
		data = append(data, raw)
	}
	return data, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) path(tile tlog.Tile) string {
	return filepath.Join(string(t), strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
}

func main() {
	log.SetFlags(0)
	dir := os.Args[1]
	vkey, err := os.ReadFile(filepath.Join(dir, "vkey"))
	check(err)
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	check(err)
	signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	check(err)
	opened, err := note.Open(signed, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	tree := tlog.Tree{N: size, Hash: tlog.Hash(root)}

	var indexes []int64
	for n := range size {
		indexes = append(indexes, tlog.StoredHashIndex(0, n))
	}
	hashes, err := tlog.TileHashReader(tree, tiles(dir)).ReadHashes(indexes)
	check(err)
	for first := int64(0); first < size; first += 1 << height {
		tile := tlog.Tile{H: height, L: -1, N: first >> height, W: int(min(1<<height, size-first))}
		path := strings.Replace(tiles(dir).path(tile), "tile/data/", "tile/entries/", 1)
		bundle, err := os.ReadFile(path)
		check(err)
		for n := first; n < first+int64(tile.W); n++ {
			length := int(binary.BigEndian.Uint16(bundle))
			if tlog.RecordHash(bundle[2:2+length]) != hashes[n] {
				log.Fatalf("record %d was altered", n)
			}
			bundle = bundle[2+length:]
		}
		if len(bundle) != 0 {
			log.Fatalf("%s goes on after its last entry", path)
		}
	}
	fmt.Printf("%s %d records\n", lines[0], size)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
